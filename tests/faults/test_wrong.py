"""Ways to be wrong in silence: resume, time zones, infinite numbers, empty results, foreign data, half publications."""

import datetime
import json
import os
import re
import resource
import shutil
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import stages
from conftest import FIXTURE, copy_csv
from pandas_pipeline import filtered_dataframe, read_csv, split
from stages import PYTHON, ROOT, artifacts, create, create_process, dbt, flow, frame, parquet, run, snapshot

pytestmark = pytest.mark.faults

TABLES = ("articles", "customers", "transactions_train")
STAGE_1, STAGE_2, RESULT = "create_parquet_dataset.json", "filtered_dataframe.json", "filtered_dataframe.parquet"


def text_of(result):
    text = result.out + result.err
    assert "Traceback" not in text, text
    return text


def refused(result, *words):
    text = text_of(result)
    assert result.code not in (0, None), text
    for word in words:
        assert word in text, text
    return text


def foreign(folder, table, name="that.parquet"):
    pq.write_table(table, folder / name)
    return folder / name


# resume


@pytest.mark.parametrize("kind", ["with a record", "without a record"])
def test_resume_takes_only_what_start_has_checked(made, kind):
    if kind == "without a record":
        (made / STAGE_2).unlink()
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_500, 5_500))  # noqa: E731
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(made)}
    command = [PYTHON, str(ROOT / "data_prep.py"), "run", "--row_sampling", "0"]
    failed = stages.subprocess.run(
        command, cwd=made, capture_output=True, text=True, env=os.environ | store, preexec_fn=limit
    )
    assert failed.returncode != 0 and "get_dataset" in failed.stdout + failed.stderr
    if kind == "with a record":
        later = dbt("run", made, {"training_end_date": "2020-09-15", "min_interactions": 1})
        assert later.code == 0, later.out
    else:
        table = pq.ParquetFile(made / RESULT).read()
        pq.write_table(table.slice(1), made / RESULT)
    resumed = run(PYTHON, ROOT / "data_prep.py", "resume", cwd=made, **store)
    refused(resumed, "is another one than step start has checked", "resume start")
    again = run(PYTHON, ROOT / "data_prep.py", "resume", "start", cwd=made, **store)
    if kind == "with a record":
        refused(again, "was filtered with training_end_date 2020-09-15, later than this run's")
    else:
        assert again.code == 0, again.out + again.err


# Time zones


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Kiritimati"])
def test_days_do_not_hang_on_the_time_zone_of_the_machine(zone, tmp_path):
    """Three stages, and a t_dat with a zone as pandas and Spark write it, before stage 2 and before stage 3."""
    folder = copy_csv(FIXTURE, tmp_path / "data")
    setting = {"TZ": zone}
    assert create_process("--data-dir", folder, **setting).code == 0
    lines = filtered_dataframe(*(read_csv(folder / f"{name}.csv") for name in TABLES))
    table = pq.ParquetFile(folder / "transactions_train").read()
    at = table.schema.get_field_index("t_dat")
    zoned = table["t_dat"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(at, "t_dat", zoned), folder / "transactions_train")
    (folder / STAGE_1).unlink()
    made = dbt("run", folder, **setting)
    assert made.code == 0, made.out
    assert "t_dat of transactions_train has a time zone: its days are taken in UTC" in made.out
    pd.testing.assert_frame_equal(parquet(folder / RESULT), lines, check_exact=True)
    table = pq.ParquetFile(folder / RESULT).read()
    at = table.schema.get_field_index("t_dat")
    path = foreign(folder, table.set_column(at, "t_dat", table["t_dat"].cast(pa.timestamp("us", "UTC"))))
    result = flow("--row_sampling", 0, "--dataset", path, cwd=folder, **setting)
    assert result.code == 0, text_of(result)
    assert "ATTENTION: t_dat has a time zone: its days are taken in UTC" in result.out
    tables = artifacts(result).label_to_dataset
    for label, expected in split(lines).items():
        pd.testing.assert_frame_equal(frame(tables[label]), expected, check_exact=True)
        assert tables[label].schema.field("t_dat").type == pa.timestamp("us")


def test_that_days_are_at_midnight_is_a_test_of_the_model(made):
    table = pq.ParquetFile(made / "transactions_train").read()
    at = table.schema.get_field_index("t_dat")
    hours = pc.add(table["t_dat"].cast(pa.timestamp("us")), pa.scalar(datetime.timedelta(hours=10)))
    pq.write_table(table.set_column(at, "t_dat", hours), made / "transactions_train")
    (made / STAGE_1).unlink()
    built = dbt("build", made)
    assert built.code != 0 and re.search(r"FAIL \d+ at_midnight_transactions_staging_t_dat", built.out), built.out


# Numbers that are not finite


@pytest.mark.parametrize(
    ("file", "column"),
    [("transactions_train", "price"), ("customers", "FN"), ("customers", "Active"), ("customers", "age")],
)
@pytest.mark.parametrize("value", ["9" * 400, "-" + "9" * 400, "1e999", "inf", "nan"])
def test_a_number_that_is_not_finite_is_a_bad_line(tmp_path, file, column, value):
    folder = copy_csv(FIXTURE, tmp_path / "data")
    table = pd.read_csv(folder / f"{file}.csv", dtype=str, keep_default_na=False)
    table.loc[2, column] = value
    table.to_csv(folder / f"{file}.csv", index=False, lineterminator="\n")
    text = refused(create("--data-dir", folder), f"{file}.csv, line 4, column {column}", "is not a number")
    assert len(text.splitlines()[-1]) < 350
    if file == "customers":  # a customer put aside is unknown to the purchases, which stay few
        return
    assert create("--data-dir", folder, "--max-bad-rows", 1).code == 0
    assert np.isfinite(parquet(folder / file)[column].dropna()).all()


# Empty results


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["run", "--empty"], {}),
        (["build", "--empty"], {}),
        (["run"], {"DBT_EMPTY": "1"}),
        (["run", "--vars", "{data_dir: DATA, training_end_date: 2018-01-01}"], {}),
        (["build", "--vars", "{data_dir: DATA, min_interactions: 1000}"], {}),
    ],
    ids=str,
)
def test_a_good_result_is_not_replaced_by_an_empty_one(made, arguments, environment):
    before = snapshot(made)
    if "--vars" not in arguments:
        arguments = [*arguments, "--vars", "{data_dir: DATA}"]
    arguments = [argument.replace("DATA", str(made)) for argument in arguments]
    result = run(stages.DBT, *arguments, cwd=ROOT / "dbt", **environment)
    assert result.code != 0
    assert re.search(r"--empty \(or DBT_EMPTY\) would replace|the result has no row", result.out), result.out
    assert snapshot(made) == before


@pytest.mark.parametrize("spoiled", ["customers", "articles"])
def test_a_row_key_twice_or_empty_is_seen_before_the_rename(made, spoiled):
    """Files of another tool, without a record: an id that stands twice doubles lines."""
    key = {"customers": "customer_id", "articles": "article_id"}[spoiled]
    (made / STAGE_1).unlink()
    before = (made / RESULT).read_bytes()
    table = pq.ParquetFile(made / spoiled).read()
    used = pq.ParquetFile(made / "transactions_train").read()[key][0]
    doubled = pa.concat_tables([table, table.filter(pc.equal(table[key], used))])
    pq.write_table(doubled, made / spoiled)
    result = dbt("run", made, {"min_interactions": 1})
    key = {"customers": "t_dat, customer_id, article_id", "articles": "article_id"}[spoiled]
    assert result.code != 0 and f"two rows with one {key}, " in result.out, result.out
    assert (made / RESULT).read_bytes() == before
    pq.write_table(table, made / spoiled)
    lines = pq.ParquetFile(made / "transactions_train").read()
    at = lines.schema.get_field_index("price")
    prices = pa.array([None, *lines["price"].to_pylist()[1:]], pa.float64())
    pq.write_table(lines.set_column(at, "price", prices), made / "transactions_train")
    result = dbt("run", made, {"min_interactions": 1})
    assert result.code != 0 and "the result has rows without price" in result.out, result.out
    assert (made / RESULT).read_bytes() == before


# Foreign data sets


def test_metadata_of_the_whole_may_stand_in_a_part(made):
    """Somebody filtered the file with pyarrow, which keeps what the whole one said of itself."""
    table = pq.ParquetFile(made / RESULT).read()
    part = table.filter(pc.less(table["t_dat"], datetime.datetime(2020, 9, 15)))
    assert part.schema.metadata[b"lineage"] and part.num_rows < table.num_rows
    result = flow("--row_sampling", 0, "--dataset", foreign(made, part), cwd=made)
    assert result.code == 0, text_of(result)
    assert "ATTENTION: nothing proves what made" in result.out and "so its rows were checked" in result.out
    assert set(artifacts(result).lineage) == {"dataset"}


def test_metadata_that_nothing_proves_may_forbid(made):
    later = pq.ParquetFile(made / RESULT).read().replace_schema_metadata({"training_end_date": "2020-09-15"})
    path = foreign(made, later)
    refused(flow("--row_sampling", 0, "--dataset", path, cwd=made), "was filtered with training_end_date 2020-09-15")


def test_times_of_the_day_are_refused(made):
    table = pq.ParquetFile(made / RESULT).read()
    at = table.schema.get_field_index("t_dat")
    hours = pc.add(table["t_dat"], pa.scalar(datetime.timedelta(hours=10)))
    path = foreign(made, table.set_column(at, "t_dat", hours))
    refused(flow("--row_sampling", 0, "--dataset", path, cwd=made), "whose t_dat has a time of the day", "date_trunc")


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**40])
def test_a_seed_out_of_bounds_is_said(made, seed):
    text = refused(flow("--sampling_seed", seed, cwd=made), f"--sampling_seed is {seed}", "from 0 to")
    assert "cannot be read" not in text


def test_the_largest_seed_works(made):
    result = flow("--row_sampling", 90, "--sampling_seed", 2**63 - 1, cwd=made)
    assert result.code == 0, text_of(result)


@pytest.mark.parametrize("value", ["null", "[]", "5", '"x"', "{", "", '{"vars": null}', "\ufeff{}", "[" * 10_000])
def test_lineage_that_is_no_lineage_is_said(made, value):
    table = pq.ParquetFile(made / RESULT).read().replace_schema_metadata({"lineage": value})
    path = foreign(made, table)
    refused(flow("--row_sampling", 0, "--dataset", path, cwd=made), "the metadata of", "that.parquet, lineage")


def test_hidden_files_are_no_data_and_other_files_are_not_passed_over(made):
    folder = made / "parts"
    folder.mkdir()
    table = pq.ParquetFile(made / RESULT).read().replace_schema_metadata()
    pq.write_table(table, folder / "a.parquet")
    for hidden in ("_x.parquet", ".x.parquet", "_tmp/b.parquet", ".tmp/b.parquet", "c/_d/e.parquet"):
        (folder / hidden).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / hidden)
    (folder / "_SUCCESS").touch()
    (folder / ".a.parquet.crc").write_bytes(b"x")
    result = flow("--row_sampling", 0, "--dataset", folder, cwd=made)
    assert result.code == 0, text_of(result)
    assert sum(t.num_rows for t in artifacts(result).label_to_dataset.values()) == table.num_rows
    (folder / "notes.txt").write_text("x")
    refused(flow("--row_sampling", 0, "--dataset", folder, cwd=made), "holds notes.txt, which is no parquet file")
    (folder / "notes.txt").unlink()
    (folder / "a.parquet").unlink()
    refused(flow("--row_sampling", 0, "--dataset", folder, cwd=made), "holds no parquet file")


def test_a_temporary_folder_of_somebody_else_stays(made, tmp_path):
    others = tmp_path / "tmp" / "DataPrepFlow-splits-of-somebody"
    others.mkdir(parents=True)
    (others / "precious").write_text("x")
    result = flow("--row_sampling", 0, cwd=made, TMPDIR=str(tmp_path / "tmp"))
    assert result.code == 0, text_of(result)
    assert (others / "precious").read_text() == "x"
    assert os.listdir(tmp_path / "tmp") == [others.name]


# Half publications


@pytest.mark.parametrize("name", [*TABLES, "rejects.csv", STAGE_1])
def test_stage_1_looks_at_every_target_before_it_reads(tmp_path, name):
    folder = copy_csv(FIXTURE, tmp_path / "data")
    assert create("--data-dir", folder).code == 0
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    before = snapshot(folder)
    result = create_process(0.5, "--data-dir", folder)
    text = refused(
        result, f"{folder / name} is a folder, where a file of that name is to be written: move or delete it"
    )
    assert "reading" not in text
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", [RESULT, STAGE_2])
def test_stage_2_looks_at_every_target_before_it_reads(made, name):
    (made / name).unlink()
    (made / name).mkdir()
    before = snapshot(made)
    result = dbt("run", made)
    assert result.code != 0 and f"{made / name} is a folder" in result.out
    assert snapshot(made) == before


# Samples


def test_a_sample_is_said_in_words(large):
    result = flow("--dataset", large / RESULT, "--row_sampling", 2)
    assert result.code == 0, text_of(result)
    lines = result.out.splitlines()
    words = "A SAMPLE: 2 percent of the rows are drawn (Bernoulli, seed 0); --row_sampling 0 takes all"
    (said,) = [n for n, line in enumerate(lines) if words in line]
    assert said < next(n for n, line in enumerate(lines) if "Fetching rows with query: " in line)
    assert any("A SAMPLE: these are 2 percent of the rows" in line for line in lines[said + 5 :])
    assert any("leak check: none of 5 rules broken, 1 not asked of a sample" in line for line in lines)
    assert (
        artifacts(result).leak_check["every customer has enough lines in train"] == "not asked of a sample of the rows"
    )
    whole = flow("--dataset", large / RESULT, "--row_sampling", 100)
    assert "A SAMPLE" not in whole.out and "leak check: none of 6 rules broken\n" in whole.out


def test_a_split_that_the_sample_left_empty_is_told_from_one_that_has_no_day(hand_made):
    path = hand_made.folder / RESULT
    rows = parquet(path)
    inside = int((rows.t_dat >= "2020-09-15").sum())
    for seed in range(200):
        result = flow("--dataset", path, "--row_sampling", 30, "--sampling_seed", seed)
        if "test IS EMPTY" in result.out and result.code == 0:
            break
    else:
        pytest.fail("no seed drew nothing: the test needs another percent")
    words = (
        f"ATTENTION: test IS EMPTY: the data set has {inside} rows of its days, and the sample of 30 percent drew none"
    )
    assert words in result.out and "take all with --row_sampling 0" in result.out
    none = flow("--dataset", path, "--row_sampling", 0, "--validation_end_date", "2020-12-01")
    assert "ATTENTION: test IS EMPTY: the data set has no row of its days (it ends on 2020-09-" in none.out


# Keys that do not join


@pytest.mark.parametrize(
    "change", [lambda one: one + " ", lambda one: " " + one, str.upper], ids=["after", "before", "case"]
)
@pytest.mark.parametrize("file", ["customers", "transactions_train"])
def test_ids_written_in_two_ways_are_refused(tmp_path, file, change):
    folder = copy_csv(FIXTURE, tmp_path / "data")
    table = pd.read_csv(folder / f"{file}.csv", dtype=str, keep_default_na=False)
    table["customer_id"] = [
        change(one) for one in table["customer_id"].str.replace("^[0-9]+$", lambda m: "a" + m[0], regex=True)
    ]
    table.to_csv(folder / f"{file}.csv", index=False, lineterminator="\n")
    before = snapshot(folder)
    text = refused(create("--data-dir", folder), "have a customer_id that is not in the customers file", "at least 10%")
    ids = sorted(set(table["customer_id"]))[:2]
    assert str(ids) in text, text
    assert snapshot(folder) == before


# What spills


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_nothing_spills_into_the_working_folder(stage, large, tmp_path):
    """Watched from outside, with so little memory that DuckDB has to spill where it has enough to do."""
    data = tmp_path / "data"
    shutil.copytree(large, data, ignore=shutil.ignore_patterns(".metaflow"))
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "tmp").mkdir()
    environment = {
        "MEMORY_LIMIT": "40MB",
        "TMPDIR": str(tmp_path / "tmp"),
        "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path),
    }
    command = {
        1: [PYTHON, ROOT / "create_parquet_dataset.py", "--data-dir", data],
        2: [stages.DBT, "run", "--project-dir", ROOT / "dbt", "--profiles-dir", ROOT / "dbt", "--vars",
            json.dumps({"data_dir": str(data)})],
        3: [PYTHON, ROOT / "data_prep.py", "run", "--row_sampling", 0, "--dataset", data / RESULT],
    }[stage]  # fmt: skip
    # DuckDB takes its folder away at the end: so it is looked for while the command works.
    wrong, spilled = set(), False
    with (tmp_path / "output").open("w+") as output:
        process = stages.subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT if stage == 2 else here,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
        )
        while process.poll() is None:
            wrong |= {place for place in (here / ".tmp", ROOT / ".tmp", ROOT / "dbt" / ".tmp") if place.exists()}
            spilled = spilled or any((data / ".unfinished.tmp" / "spill").glob("duckdb_temp*"))
            time.sleep(0.01)
        output.seek(0)
        text = output.read()
    assert process.returncode == 0 or "memory" in text.lower(), text  # whether it is enough does not matter here
    assert wrong == set()
    assert spilled or stage != 2, "the wide sort did not spill: the test needs less memory"
    assert not (data / ".unfinished.tmp").exists() and os.listdir(tmp_path / "tmp") == []
