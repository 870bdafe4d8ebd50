"""Stage 2: the lines of the customers who stay, as one wide table; bad vars leave it as it was."""

import json
import re
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FIXTURE
from pandas_pipeline import COLUMNS, ORDER, filtered_dataframe, known_lines, read_csv, sample
from stages import PYTHON, ROOT, create, dbt, dbt_process, expected, parquet, run, snapshot

RESULT = "filtered_dataframe.parquet"
TYPES = (
    dict.fromkeys(COLUMNS, pa.int64())
    | dict.fromkeys(["price", "active", "fn", "age"], pa.float64())
    | dict.fromkeys(["product_group_name", "index_code", "club_member_status"], pa.string())
    | dict.fromkeys(["customer_id", "fashion_news_frequency", "postal_code"], pa.string())
    | {"t_dat": pa.timestamp("us")}
)


@pytest.fixture
def made(hand_made, tmp_path):
    """The hand-written data set after all stages, in a folder of the test's own."""
    return shutil.copytree(hand_made.folder, tmp_path / "made")


def csv_files():
    """articles, customers, transactions as in the hand-written CSV files."""
    return [read_csv(FIXTURE / f"{name}.csv") for name in ("articles", "customers", "transactions_train")]


# What is written


def test_the_hand_written_rows_give_the_table_worked_out_by_hand(hand_made):
    table = parquet(hand_made.folder / RESULT)
    pd.testing.assert_frame_equal(table, expected("train", "valid", "test"), check_exact=True)


def test_columns_and_types_are_the_published_ones(hand_made):
    schema = pq.read_schema(hand_made.folder / RESULT)
    assert schema.names == COLUMNS
    assert {field.name: field.type for field in schema} == TYPES


@pytest.mark.parametrize(
    "variables",
    [
        {"training_end_date": "2020-09-09"},  # 2020-09-08 is the fifth line of customer 2
        {"training_end_date": "2020-02-29", "min_interactions": 4},
    ],
    ids=str,
)
def test_the_vars_decide_who_stays(made, variables):
    assert dbt("run", made, variables).code == 0
    pd.testing.assert_frame_equal(
        parquet(made / RESULT), filtered_dataframe(*csv_files(), **variables), check_exact=True
    )


def test_the_file_says_what_made_it(made):
    variables = {"training_end_date": "2020-10-01", "min_interactions": 1}
    assert create(0.5, "--by", "row", "--seed", 3, "--data-dir", made).code == 0
    assert dbt("run", made, variables).code == 0
    articles, customers, transactions = csv_files()
    kept = sample(transactions, 0.5, "row", 3)
    pd.testing.assert_frame_equal(
        parquet(made / RESULT),
        filtered_dataframe(articles, customers, kept, **variables),
        check_exact=True,
    )
    notes = pq.read_metadata(made / RESULT).metadata
    assert notes[b"training_end_date"] == b"2020-10-01"
    assert notes[b"min_interactions"] == b"1"
    assert (notes[b"fraction"], notes[b"by"], notes[b"seed"]) == (b"0.5", b"row", b"3")


def groups(folder):
    """What the record says of the customers with so many lines before training_end_date."""
    record = json.loads((folder / "filtered_dataframe.json").read_text())
    return pd.DataFrame(record["customers_by_lines"], columns=["lines", "customers", "rows"])


@pytest.mark.parametrize("source", ["hand_made", "large", "hm_real"])
def test_the_record_counts_customers_and_rows_also_of_those_left_out(source, request):
    made = request.getfixturevalue(source)
    folder = made if source == "large" else made.folder
    files = [read_csv(folder / f"{name}.csv") for name in ("articles", "customers", "transactions_train")]
    lines = known_lines(*files)
    lines["before"] = lines.t_dat < "2020-09-08"
    of = lines.groupby("customer_id").agg(lines=("before", "sum"), rows=("before", "size"))
    expected = of.groupby(of.lines.clip(upper=20)).agg(customers=("rows", "size"), rows=("rows", "sum")).reset_index()
    pd.testing.assert_frame_equal(groups(folder), expected, check_dtype=False)
    assert expected.lines.min() < 5 <= expected.lines.max()


@pytest.mark.parametrize("least", [1, 3, 6])
def test_another_min_interactions_keeps_what_the_record_says(made, least):
    before = groups(made)
    said = before[before.lines >= least]
    result = dbt("run", made, {"min_interactions": least})
    if said.empty:
        assert result.code != 0 and "the result has no row" in result.out
        return
    assert result.code == 0
    table = parquet(made / RESULT)
    assert (table.customer_id.nunique(), len(table)) == (said.customers.sum(), said.rows.sum())
    pd.testing.assert_frame_equal(groups(made), before)  # whom the filter leaves out does not matter


def test_dbt_build_passes_without_a_warning_and_with_an_empty_home(made, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    before = (made / RESULT).read_bytes()
    result = dbt_process("build", made, HOME=str(home))
    assert result.code == 0, result.out
    assert "WARN=0 ERROR=0 SKIP=0" in result.out
    assert "warn" not in result.out.replace("WARN=0", "").lower()
    assert "deprecat" not in result.out.lower()
    assert not list(home.iterdir())
    assert (made / RESULT).read_bytes() == before


# Always the same


@pytest.mark.parametrize("threads", [1, 2])
def test_again_and_with_other_threads_the_same_bytes(large, threads):
    before = (large / RESULT).read_bytes()
    result = dbt("run", large, threads=threads)
    assert result.code == 0, result.out
    assert (large / RESULT).read_bytes() == before


def test_rows_are_in_total_order(large):
    table = parquet(large / RESULT)
    assert pq.read_metadata(large / RESULT).num_row_groups > 2
    assert not table.duplicated(ORDER).any()
    pd.testing.assert_frame_equal(table, table.sort_values(ORDER).reset_index(drop=True), check_exact=True)


# Bad input: one sentence, exit code not 0, the previous output untouched


def refused(folder, sentence, variables=None):
    before = snapshot(folder)
    result = dbt("run", folder, variables)
    assert result.code != 0
    assert "Traceback" not in result.out
    assert result.out.count(sentence) == 1, result.out
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("min_interactions", "five", "min_interactions is 'five': it must be a whole number"),
        ("min_interactions", 2.5, "min_interactions is '2.5': it must be a whole number"),
        ("min_interactions", 0, "min_interactions is '0': it must be a whole number"),
        ("training_end_date", "2020-02-30", "training_end_date is '2020-02-30': it must be a day"),
        ("training_end_date", "yesterday", "training_end_date is 'yesterday': it must be a day"),
        ("training_end_date", "2020-09-08' or '1", "' or '1': it must be a day"),
        ("min_interaction", 3, "unknown var 'min_interaction': the vars of this project are"),
    ],
)
def test_bad_vars(made, name, value, sentence):
    refused(made, sentence, {name: value})


def test_a_file_of_stage_1_is_missing(made):
    (made / "articles").unlink()
    refused(made, f"{made}/articles is missing: run ")


def test_a_folder_of_spark_lies_in_the_way(made):
    result = made / "filtered_dataframe.parquet"
    result.unlink(missing_ok=True)
    result.mkdir()
    (result / "_SUCCESS").touch()
    refused(made, f"{result} is a folder, as Spark leaves it, where DuckDB would write its file")


def test_a_file_of_stage_1_is_damaged(made):
    (made / "customers").write_bytes(b"PAR1 damaged PAR1")
    refused(made, f"{made}/customers is not the file that its record names")


def spoil(path, change):
    """Replace a parquet file by change(table), as if another tool had written it."""
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    (path.parent / "create_parquet_dataset.json").unlink(missing_ok=True)


def first_row_twice(table):
    return pa.concat_tables([table, table.slice(0, 1)])


def first_row_null(table):
    return pa.concat_tables([pa.table({f.name: pa.nulls(1, f.type) for f in table.schema}), table.slice(1)])


@pytest.mark.parametrize(
    ("change", "tests"),
    [
        (
            first_row_twice,
            [
                "unique_articles_staging_article_id",
                "unique_customers_staging_customer_id",
            ],
        ),
        (
            first_row_null,
            [
                "not_null_articles_staging_article_id",
                "not_null_customers_staging_customer_id",
                "not_null_transactions_staging_t_dat",
                "not_null_transactions_staging_customer_id",
                "not_null_transactions_staging_article_id",
                "not_null_transactions_staging_price",
                "not_null_transactions_staging_sales_channel_id",
            ],
        ),
    ],
)
def test_the_data_tests_refuse_what_other_tools_may_write(made, change, tests):
    for file in ("articles", "customers", "transactions_train"):
        spoil(made / file, change)
    before = snapshot(made)
    result = dbt("build", made)
    failed = [line for line in result.out.splitlines() if " FAIL " in line]
    for test in tests:
        assert any(test in line for line in failed), result.out
    assert result.code != 0
    assert snapshot(made) == before  # the models behind a failed test are not run


def test_dbt_build_refuses_an_empty_result(made):
    result = dbt("build", made, {"training_end_date": "2018-01-01"})
    assert result.code != 0
    assert "the result has no row, so the one before it stays" in result.out


SLICES = """
import sys
from dbt.cli.main import dbtRunner
from prep.transform import plugin

in_order = plugin.in_order

def without_memory(*arguments):
    if len(arguments) == 2:
        raise plugin.{}
    print("slice from", arguments[2])
    return in_order(*arguments)

plugin.in_order, plugin.SLICE_ROWS = without_memory, 7
sys.exit(not dbtRunner().invoke(["run", "--quiet", "--vars", "data_dir: " + sys.argv[1]]).success)
"""


@pytest.mark.parametrize("error", ["OutOfOrderError", "duckdb.OutOfMemoryException"])
def test_a_join_that_does_not_fit_into_memory_is_written_in_slices(made, error):
    """DuckDB then hands the rows out in no order, or gives up: with 95 million purchases it did both."""
    whole = (made / RESULT).read_bytes()
    done = run(PYTHON, "-c", SLICES.format(error), made, cwd=ROOT / "dbt", PYTHONPATH=str(ROOT))
    assert done.code == 0, done.out
    assert re.findall(r"slice from (\d+)", done.out) == [
        str(start) for start in range(0, pq.read_metadata(made / RESULT).num_rows, 7)
    ]
    assert (made / RESULT).read_bytes() == whole
