"""Stage 3: the tables of a run by date, as plain Arrow for any reader; bad input makes no run."""

import json
import pickle
import re
import shutil
import sys
from datetime import datetime

import duckdb
import metaflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stages
from conftest import ROOT
from pandas_pipeline import COLUMNS, item_id_2_meta, read_csv, split
from stages import PYTHON, artifacts, expected, flow, frame, parquet, run, run_of

from prep.errors import PrepError
from prep.split.artifacts import stored_table
from prep.split.dataset import states_of
from prep.split.run import Run
from prep.split.splits import make_splits
from prep.split.star import write_splits

RESULT = "filtered_dataframe.parquet"
LABELS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def dataset(hand_made):
    return hand_made.folder / RESULT


@pytest.fixture
def foreign(dataset, tmp_path):
    """The hand-written data set as another engine leaves it: no record of what made it."""
    path = tmp_path / RESULT
    pq.write_table(pq.ParquetFile(dataset).read().replace_schema_metadata(), path)
    return path


def lines(result):
    """What the steps printed, without Metaflow's time and task in front."""
    return [re.sub(r"^\S+ \S+ \[[^\]]*\] ", "", line) for line in result.out.splitlines()]


# The tables and the other artifacts


@pytest.mark.parametrize("label", LABELS)
def test_the_hand_written_rows_are_split_as_worked_out_by_hand(hand_made, label):
    table = artifacts(hand_made.prepared).label_to_dataset[label]
    pd.testing.assert_frame_equal(frame(table), expected(label), check_exact=True)


def test_valid_and_test_are_there_once_more(hand_made):
    data = artifacts(hand_made.prepared)
    assert data.valid.equals(data.label_to_dataset["valid"])
    assert data.test.equals(data.label_to_dataset["test"])


def test_the_columns_keep_their_types_and_text_is_plain(hand_made, dataset):
    for table in artifacts(hand_made.prepared).label_to_dataset.values():
        assert type(table) is pa.Table
        assert table.schema.names == COLUMNS
        assert table.schema.types == pq.read_schema(dataset).types
        assert table.schema.types.count(pa.string()) == 6


def test_item_id_2_meta_holds_the_article_columns_and_no_purchase(hand_made, dataset):
    meta = artifacts(hand_made.prepared).item_id_2_meta
    assert meta == item_id_2_meta(parquet(dataset), read_csv(hand_made.folder / "articles.csv"))
    assert len(meta) == 7
    assert meta["200000002"]["department_no"] == 3608
    columns = pq.read_schema(hand_made.folder / "articles").names  # Kaggle's, in Kaggle's order
    assert len(columns) == 25 and all(list(row) == columns for row in meta.values())
    assert meta["200000001"]["prod_name"] == "Moss Sock"


def test_the_dates_are_datetimes(hand_made):
    data = artifacts(hand_made.prepared)
    assert data.training_end_date == datetime(2020, 9, 8)
    assert data.validation_end_date == datetime(2020, 9, 15)


def test_an_id_that_is_described_in_two_ways_keeps_each_description(foreign, tmp_path):
    """As where a shop writes the age at the time of the purchase: the star holds the ids alone then."""
    wide = parquet(foreign)
    wide.loc[wide.index[-1], ["age", "product_group_name"]] = [77.0, "Something else"]
    pq.write_table(pa.Table.from_pandas(wide, pq.read_schema(foreign), preserve_index=False), foreign)
    prepared = flow("--row_sampling", 0, cwd=tmp_path)
    assert prepared.code == 0, prepared.out + prepared.err
    tables = artifacts(prepared).label_to_dataset
    for label, rows in split(parquet(foreign)).items():
        pd.testing.assert_frame_equal(frame(tables[label]), rows, check_exact=True)


def test_long_tables_open_in_pieces(dataset, tmp_path, monkeypatch):
    """A piece of text holds 2 GB in Arrow, which 33 million ids of 64 characters would pass."""
    monkeypatch.setattr("prep.split.artifacts.ROW_GROUP_ROWS", 3)
    con, splits = duckdb.connect(), make_splits(datetime(2020, 9, 8), datetime(2020, 9, 15), tmp_path)
    write_splits(con, f"from '{dataset}'", splits, stages.SHOP, lambda rows: None)
    train = pickle.loads(pickle.dumps(stored_table(splits[0], stages.SHOP)))
    assert train["customer_id"].num_chunks == -(-len(train) // 3) > 2
    pd.testing.assert_frame_equal(frame(train), expected("train"), check_exact=True)


READER = """
import importlib.util, json, sys
import metaflow
assert importlib.util.find_spec("data_prep") is None
metaflow.namespace(None)
data = metaflow.Flow("DataPrepFlow")[sys.argv[1]].data
tables = data.label_to_dataset
print(json.dumps({
    "types": [f"{type(t).__module__}.{type(t).__name__}" for t in (*tables.values(), data.test)],
    "rows": {label: table.num_rows for label, table in tables.items()},
    "decoded": tables["test"].to_pandas()["fashion_news_frequency"].astype(str).tolist(),
    "foreign": sorted({"data_prep", "prep"} & set(sys.modules)),
}))
"""


def test_a_process_without_this_project_reads_plain_tables(hand_made, tmp_path):
    result = run(PYTHON, "-c", READER, run_of(hand_made.prepared).id, cwd=tmp_path)
    assert result.code == 0, result.err
    assert json.loads(result.out) == {
        "types": ["pyarrow.lib.Table"] * 4,
        "rows": {"train": 10, "valid": 2, "test": 3},
        "decoded": ["Regularly", "None", "Regularly"],
        "foreign": [],
    }


def test_reading_test_costs_a_small_part_of_reading_all(large_run):
    stored = run_of(large_run)["get_dataset"].task
    sizes = {name: stored[name].size for name in ("label_to_dataset", "valid", "test")}
    assert 10 * (sizes["valid"] + sizes["test"]) < sizes["label_to_dataset"], sizes


# What the run prints


def test_what_the_run_prints(hand_made):
    said = lines(hand_made.prepared)
    id = run_of(hand_made.prepared).id
    for line in (
        "flow name: DataPrepFlow",
        f"run id: {id}",
        "username: tester",
        "DATASTORE_SYSROOT_S3: None",
        "ATTENTION: LOCAL DATASTORE ENABLED",
        "# 10 events in the training set, 2 for validation, 3 for test",
    ):
        assert said.count(line) == 1, line
    (query,) = [line for line in said if line.startswith("Fetching rows with query: ")]
    assert "sample" not in query and RESULT in query
    (example,) = [line for line in said if line.startswith("Example row ")]
    # Parsed: it is a dict with the file's columns, and a row of the table.
    row = eval(example.removeprefix("Example row "), {"datetime": sys.modules["datetime"]})
    table = parquet(hand_made.folder / RESULT)
    shown = COLUMNS[:13] + COLUMNS[20:]  # of the customer nothing
    assert list(row) == shown
    assert row in table[shown].astype(object).to_dict("records")


def test_the_last_lines_open_the_tables(hand_made, tmp_path):
    said = lines(hand_made.prepared)
    start = next(n for n, line in enumerate(said) if line.startswith("All done"))
    code = said[start + 1 : said.index("tables = data.label_to_dataset") + 1]
    code.append("print({label: len(table) for label, table in tables.items()})")
    result = run(PYTHON, "-c", "\n".join(code), cwd=tmp_path)
    assert result.out == "{'train': 10, 'valid': 2, 'test': 3}\n", result


def test_every_line_of_figures_fits_100_columns(hand_made):
    """Metaflow writes time, run, step, task and process before each: 63 columns, of which the process has up to 7."""
    said = [line for line in hand_made.prepared.out.splitlines() if "/end/" in line]
    figures = said[: next(n for n, line in enumerate(said) if line.endswith("See it:"))]
    assert len(figures) > 10
    for line in figures:
        prefix, _, text = line.partition("] ")
        process = re.search(r"pid (\d+)", prefix)[1]
        assert len(prefix) + 2 - len(process) + 7 + len(text) <= 100, line


def test_thousands_are_separated(large_run, large):
    rows = {label: len(table) for label, table in split(parquet(large / RESULT)).items()}
    assert rows["train"] > 100_000
    assert (
        f"# {rows['train']:,} events in the training set, {rows['valid']:,} for validation, {rows['test']:,} for test"
    ) in lines(large_run)


def test_show_names_the_steps_and_help_the_parameters():
    shown = run(PYTHON, ROOT / "data_prep.py", "show").out
    for step in ("start", "get_dataset", "end"):
        assert re.search(rf"^Step {step}\n    \S", shown, re.MULTILINE)
    helped = " ".join(run(PYTHON, ROOT / "data_prep.py", "run", "--help").out.split())
    for parameter, default in (
        ("row_sampling", "1"),
        ("sampling_seed", "0"),
        ("dataset", "filtered_dataframe.parquet"),
    ):
        assert re.search(rf"--{parameter} [A-Z]+ \S.*\[default: {re.escape(default)}\]", helped)
    for parameter in ("training_end_date", "validation_end_date", "project"):  # empty: the shop's own
        assert re.search(rf"--{parameter} TEXT \S[^\[]*empty: (the shop's|H&M's)", helped)


def test_importing_does_nothing(tmp_path):
    result = run(PYTHON, "-c", "import data_prep", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert result == (0, "", "")
    assert not list(tmp_path.iterdir())


# Dates, folders, files of other engines


def options(dataset, dates):
    return ["--dataset", dataset, "--row_sampling", 0,
            "--training_end_date", dates[0], "--validation_end_date", dates[1]]  # fmt: skip


def test_other_dates_split_elsewhere(dataset):
    dates = ("2020-09-14", "2020-09-22")
    tables = artifacts(flow(*options(dataset, dates))).label_to_dataset
    for label, table in split(parquet(dataset), *dates).items():
        pd.testing.assert_frame_equal(frame(tables[label]), table, check_exact=True)
    assert [len(tables[label]) for label in LABELS] == [11, 3, 1]


@pytest.mark.parametrize(
    ("dates", "rows"),
    [(("2020-09-16", "2020-09-20"), [14, 0, 1]), (("2021-01-01", "2021-01-02"), [15, 0, 0])],
)
def test_an_empty_valid_or_test_is_said_and_stored(dataset, dates, rows):
    done = flow(*options(dataset, dates))
    assert done.code == 0, done.out
    said = lines(done)
    assert "# {} events in the training set, {} for validation, {} for test".format(*rows) in said
    tables = artifacts(done).label_to_dataset
    for label, number in zip(LABELS, rows, strict=True):
        assert tables[label].num_rows == number
        assert tables[label].schema == tables["train"].schema
        loud = [line for line in said if line.startswith("ATTENTION: ") and f" {label} " in line]
        assert len(loud) == (number == 0)


def test_a_folder_of_part_files_of_another_engine(dataset, tmp_path):
    """As Spark writes it: no record, other widths and column order, days as dates, part files."""
    table = pq.ParquetFile(dataset).read().replace_schema_metadata()
    days = table.schema.get_field_index("t_dat")
    table = table.set_column(days, "t_dat", table["t_dat"].cast(pa.date32()))
    table = table.set_column(0, "article_id", table["article_id"].cast(pa.int32()))
    table = table.select(COLUMNS[::-1])
    folder = tmp_path / RESULT
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for number, start in enumerate((0, 4, 11)):
        part = table.slice(start, (4, 7, 4)[number])
        pq.write_table(part, folder / f"part-0000{number}.parquet")
    done = flow("--row_sampling", 0, cwd=tmp_path)
    assert done.code == 0, done.out
    assert sum("nothing proves what made" in line for line in lines(done)) == 1
    for label, table in artifacts(done).label_to_dataset.items():
        pd.testing.assert_frame_equal(frame(table), expected(label), check_exact=True)


# Row sampling


@pytest.fixture(scope="module")
def large_run(large):
    """All rows: row_sampling 100, which is the same as 0."""
    return flow("--row_sampling", 100, cwd=large)


def sampled(large, percent, **options):
    """The rows of a run that samples them, in one table, by their place in the file."""
    done = flow("--row_sampling", percent, "--sampling_seed", 3, cwd=large, **options)
    tables = artifacts(done).label_to_dataset
    return pd.concat([frame(tables[label]) for label in LABELS], ignore_index=True)


def test_all_percents_of_the_rows_are_all_rows(large_run, large):
    tables = artifacts(large_run).label_to_dataset
    for label, table in split(parquet(large / RESULT)).items():
        pd.testing.assert_frame_equal(frame(tables[label]), table, check_exact=True)


def test_a_sample_is_duckdbs_bernoulli_sample_whatever_the_threads(large):
    of_two = sampled(large, 2, threads=2)
    of_one = sampled(large, 1, threads=1)
    again = sampled(large, 1, threads=4)
    pd.testing.assert_frame_equal(of_one, again, check_exact=True)
    for percent, table in ((1, of_one), (2, of_two)):
        for threads in (1, 2):
            with duckdb.connect(config={"threads": threads}) as con:
                rows = con.sql(
                    f"select * from '{large / RESULT}' using sample {percent} percent (bernoulli, 3)"
                ).to_arrow_table()
            pd.testing.assert_frame_equal(table, rows.to_pandas(), check_exact=True)
        all_rows = pq.read_metadata(large / RESULT).num_rows
        spread = (all_rows * percent / 100) ** 0.5
        assert abs(len(table) - all_rows * percent / 100) < 5 * spread
    inside = of_one.merge(of_two)  # on all columns; lines are unique
    assert len(inside) == len(of_one) < len(of_two)


# Bad input: one sentence, exit code not 0, no run that a reader would find


def refused(sentence, *arguments, **options):
    """The flow refuses and says sentence (a regular expression) once."""
    result = flow(*arguments, **options)
    assert result.code != 0
    said = result.out + result.err
    assert "Traceback" not in said
    assert len(re.findall(sentence, said)) == 1, said
    return said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--row_sampling", -1], "--row_sampling is -1: it must be .* 0 .* 100"),
        (["--row_sampling", 101], "--row_sampling is 101: it must be .* 0 .* 100"),
        (["--row_sampling", 2.5], "'--row_sampling': 2.5 is not a valid integer"),
        (["--sampling_seed", -1], "--sampling_seed is -1: it must be from 0 to 9223372036854775807"),
        (
            ["--training_end_date", "8 Sep"],
            "--training_end_date is '8 Sep': it must be a day such as 2020-09-08",
        ),
        (["--training_end_date", "2020-9-8"], "--training_end_date is '2020-9-8': it must be a day such as"),
        (
            ["--validation_end_date", "2020-09-31"],
            "--validation_end_date is '2020-09-31': it must be a day such as",
        ),
        (
            ["--validation_end_date", "2020-09-08"],
            "--validation_end_date 2020-09-08 is not after --training_end_date 2020-09-08",
        ),
        (
            ["--training_end_date", "2020-09-07"],
            "filtered with training_end_date 2020-09-08, later than this run's 2020-09-07.* run dbt again with --vars",
        ),
    ],
)
def test_bad_parameters(dataset, arguments, sentence):
    refused(sentence, "--dataset", dataset, *arguments)


def test_no_row_to_train_on(foreign):
    """The dates, the days that the data set has, and the cure are said."""
    table = pq.read_table(foreign)
    pq.write_table(table.slice(0, 1), foreign)  # 1 % of one row
    said = refused("no row to train on before 2020-09-08", "--dataset", foreign)
    (sentence,) = [line for line in said.splitlines() if "no row to train on" in line]
    for word in ("2020-09-15", "2018-09-20 to 2018-09-20", "--row_sampling 0"):
        assert word in sentence


def test_a_dataset_that_is_missing(tmp_path):
    said = refused("filtered_dataframe.parquet is missing: make it with", cwd=tmp_path)
    assert "dbt run" in said and "--dataset" in said


def test_a_dataset_that_is_no_parquet(tmp_path):
    path = tmp_path / "some.parquet"
    for content in (b"", b"t_dat,customer_id\n"):
        path.write_bytes(content)
        refused(f"{path} cannot be read as parquet .*dbt run", "--dataset", path)


def test_a_folder_without_part_files(tmp_path):
    refused(f"the folder {tmp_path} holds no parquet file: .*dbt run", "--dataset", tmp_path)


@pytest.mark.parametrize("below", ["", "_temporary/0/_temporary/attempt_0"])
def test_a_folder_that_spark_did_not_finish(foreign, tmp_path, below):
    folder = tmp_path / "unfinished"
    (folder / below).mkdir(parents=True)
    foreign.rename(folder / below / "part-00000-0a1b.c000.zstd.parquet")
    refused(f"{folder} has no _SUCCESS, so Spark did not finish it", "--dataset", folder)


def test_a_dataset_that_is_removed_while_the_run_goes_on(tmp_path):
    with pytest.raises(PrepError, match=f"the data set {tmp_path}/gone was removed after the run had begun"):
        states_of([tmp_path / "gone"])


@pytest.mark.parametrize("other", ["without a column", "no parquet"])
def test_a_dataset_that_is_replaced_while_it_is_split(foreign, tmp_path, other):
    """The sentence is of the replacement, not of what reading half of each file led to."""
    days = datetime(2020, 9, 8), datetime(2020, 9, 15)
    task = Run(stages.SHOP, str(foreign), tmp_path, days, 0, 0)
    task.open({"dataset": task.dataset.content()})

    def replace(_):
        new = tmp_path / "new.parquet"
        if other == "no parquet":
            new.write_bytes(bytes(100))
        else:
            pq.write_table(pq.read_table(foreign).drop(["customer_id"]), new)
        new.replace(foreign)
        return lambda rows: None

    with pytest.raises(PrepError, match=f"{foreign} was replaced while it was read: run the flow again"):
        task.split(replace)


def test_a_dataset_without_rows(foreign):
    pq.write_table(pq.read_table(foreign).slice(0, 0), foreign)
    refused(f"{foreign} has no row", "--dataset", foreign, "--row_sampling", 0)


def test_a_dataset_without_needed_columns(foreign):
    table = pq.read_table(foreign)
    pq.write_table(table.drop_columns("quantity"), foreign)
    refused(f"{foreign} lacks the column quantity: make it again", "--dataset", foreign)
    pq.write_table(pa.table({"prediction": table["price"]}), foreign)
    refused(f"{foreign} lacks the column {', '.join(COLUMNS)}: make", "--dataset", foreign)


def test_a_foreign_dataset_with_customers_of_later_days_only(foreign):
    dates = ["--training_end_date", "2019-12-24", "--validation_end_date", "2020-09-08"]
    refused(
        f"{foreign} does not say how it was filtered, and 1 of its customers bought nothing before 2019-12-24",
        "--dataset",
        foreign,
        *dates,
    )


@pytest.mark.parametrize("limit", ["1MB", "4MB", "8MB"])
def test_too_little_memory_is_said_as_that(large, limit):
    """Wherever it ends, not as a damaged data set."""
    said = refused("set MEMORY_LIMIT", "--dataset", large / RESULT, "--row_sampling", 0, MEMORY_LIMIT=limit)
    assert "make it again" not in said


@pytest.mark.parametrize("column", ["t_dat", "customer_id", "quantity"])
def test_a_foreign_dataset_with_rows_that_lack_a_key(foreign, column):
    table = pq.read_table(foreign)
    holes = pa.array([None, *table[column].to_pylist()[1:]], table.schema.field(column).type)
    pq.write_table(table.set_column(COLUMNS.index(column), column, holes), foreign)
    refused("has 1 rows without .* each row needs all", "--dataset", foreign)


@pytest.mark.parametrize("group", [0, -1])
def test_a_foreign_dataset_that_is_damaged_inside(foreign, group):
    """What opening it does not show, and no record either."""
    pq.write_table(pq.read_table(foreign), foreign, row_group_size=5)
    metadata = pq.read_metadata(foreign)
    price = metadata.row_group(range(metadata.num_row_groups)[group]).column(COLUMNS.index("price"))
    content = bytearray(foreign.read_bytes())
    content[price.data_page_offset : price.data_page_offset + 8] = b"\xff" * 8
    foreign.write_bytes(content)
    refused(f"{foreign} cannot be read as parquet .* again", "--dataset", foreign, "--row_sampling", 0)


def test_a_dataset_changed_since_it_was_made(dataset, tmp_path):
    folder = shutil.copytree(dataset.parent, tmp_path / "copy")
    content = bytearray((folder / RESULT).read_bytes())
    content[len(content) // 3] ^= 1
    (folder / RESULT).write_bytes(content)
    result = flow("--row_sampling", 0, cwd=folder)
    assert result.code != 0
    assert "Traceback" not in result.out + result.err


def test_the_latest_successful_run_is_the_one_before_a_refused_one(hand_made):
    assert run_of(hand_made.prepared).successful
    before = metaflow.Flow("DataPrepFlow").latest_successful_run
    refused("is missing", "--dataset", "nowhere.parquet")
    latest = metaflow.Flow("DataPrepFlow").latest_successful_run
    assert latest.id == before.id
    assert type(latest.data.label_to_dataset["train"]) is pa.Table


def test_a_driver_that_is_not_installed_is_named(tmp_path):
    """BigQuery's stands in an environment of its own."""
    result = flow("--dataset", "bigquery://project#hm.filtered_dataframe", cwd=tmp_path)
    assert result.code != 0 and "Traceback" not in result.err
    said = "the driver for bigquery://project#hm.filtered_dataframe is missing: pip install --requirement"
    assert f"{said} requirements/warehouses.txt." in result.out


def test_metaflow_without_a_user_name_says_so(tmp_path):
    names = dict.fromkeys(("METAFLOW_USER", "SUDO_USER", "USERNAME", "USER", "LOGNAME"), "")
    result = flow(cwd=tmp_path, **names)
    assert result.code != 0
    assert "Metaflow could not determine your user name" in result.out + result.err
