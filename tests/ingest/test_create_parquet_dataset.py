"""Stage 1: types and order as in the CSV files, a stable sample, and no output from bad input."""

import csv
import gzip
import io
import json
import os
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FIXTURE, copy_csv
from pandas_pipeline import ARTICLE_COLUMNS, CUSTOMER_COLUMNS, TRANSACTION_COLUMNS, read_csv, sample
from stages import PYTHON, create, create_process, parquet, run, snapshot

from prep.ingest import tables

FILES = ("articles", "customers", "transactions_train")
RECORD = "create_parquet_dataset.json"
NEEDED = {"articles": ARTICLE_COLUMNS, "customers": CUSTOMER_COLUMNS, "transactions_train": TRANSACTION_COLUMNS}
TYPES = {
    "t_dat": pa.date32(),
    "price": pa.float64(),
    "sales_channel_id": pa.int64(),
    "FN": pa.float64(),
    "Active": pa.float64(),
    "age": pa.float64(),
} | {
    name: pa.int64()
    for name in ARTICLE_COLUMNS
    if name not in ("article_id", "product_code", "product_group_name", "index_code")
}


def text_of(table):
    """The columns of a parquet file as the text of the CSV file, numbers as numbers."""
    return table.assign(t_dat=table["t_dat"].astype(str)) if "t_dat" in table else table


def typed(csv):
    """The CSV file with the types of the parquet file."""
    return csv.astype({name: TYPES[name].to_pandas_dtype() for name in csv if name in TYPES and name != "t_dat"})


def customers_kept(folder):
    """First digits of the hand-written customers that the sample kept."""
    return sorted({customer[0] for customer in parquet(folder / "transactions_train").customer_id})


def rewrite(path, change):
    """Replace the text of a file by change(text)."""
    text = path.read_bytes().decode()
    changed = change(text)
    assert changed != text
    path.write_bytes(changed.encode())


# What is written


@pytest.mark.parametrize("file", FILES)
def test_every_column_row_and_cell_of_the_csv_file_is_there_in_its_order(hand_made, file):
    csv = read_csv(FIXTURE / f"{file}.csv")
    schema = pq.read_schema(hand_made.folder / file)
    assert schema.names == list(csv.columns)
    assert {name: schema.field(name).type for name in schema.names} == {
        name: TYPES.get(name, pa.string()) for name in csv.columns
    }
    table = text_of(parquet(hand_made.folder / file))
    pd.testing.assert_frame_equal(table, typed(csv), check_exact=True)


def test_the_files_say_how_they_were_sampled(data):
    assert create(0.5, "--by", "row", "--seed", 3, "--data-dir", data).code == 0
    for file in FILES:
        notes = pq.read_metadata(data / file).metadata
        assert (notes[b"fraction"], notes[b"by"], notes[b"seed"]) == (b"0.5", b"row", b"3")


def test_the_table_says_that_customers_keep_their_file(data):
    """A quarter of the customers' purchases, but the file of the customers stays whole."""
    said = "Only transactions_train is sampled: articles and customers keep all their rows."
    assert said in create(0.25, "--data-dir", data).out
    assert len(parquet(data / "customers")) == len(read_csv(FIXTURE / "customers.csv"))
    assert said not in create("--data-dir", data).out


def test_only_the_three_files_and_their_record_are_added(data):
    before = set(snapshot(data))
    assert create("--data-dir", data).code == 0
    assert {str(path) for path in set(snapshot(data)) - before} == {*FILES, RECORD}


def test_what_a_killed_run_left_is_taken_away(data):
    (data / ".unfinished.tmp" / "spill").mkdir(parents=True)
    for name in ("spill/duckdb_temp_1_0_owner", "articles", "rejects.csv", RECORD):
        (data / ".unfinished.tmp" / name).write_bytes(b"half")
    assert create("--data-dir", data).code == 0
    assert not list(data.glob("*.tmp"))


def test_the_working_folder_is_the_default_and_the_closing_table_counts_the_rows(data):
    result = create_process(0.5, cwd=data)
    assert result.code == 0, result.err
    header, *rows = [re.split("  +", line) for line in result.out.splitlines()[:4]]
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["file"] for row in table] == list(FILES)
    assert [row["rows read"] for row in table] == ["8", "7", "40"]
    assert [row["rows kept"] for row in table] == ["8", "7", "31"]
    for row in table:
        assert row["bytes"] == f"{(data / row['file']).stat().st_size:,}"
        assert float(row["seconds"]) < 60


@pytest.mark.parametrize("at_once", [tables.KEYS_AT_ONCE, 2])
def test_purchases_of_unknown_customers_and_articles_are_counted(data, monkeypatch, at_once):
    monkeypatch.setattr(tables, "KEYS_AT_ONCE", at_once)
    rewrite(
        data / "transactions_train.csv",
        lambda text: text.replace(",0100000002,", ",0888888888,").replace("9999,0100000001,", "9999,0888888888,"),
    )
    result = create("--data-dir", data)
    (articles,) = [line for line in result.out.splitlines() if "the articles file" in line]
    (customers,) = [line for line in result.out.splitlines() if "the customers file" in line]
    assert articles.split()[0] == "7"  # six, and one of 0999999999
    assert customers.split()[0] == "1"  # whose article is one of the six
    assert json.loads((data / "create_parquet_dataset.json").read_text())["unknown"]["either"] == 7
    assert len(parquet(data / "transactions_train")) == 40


def test_nothing_is_said_when_all_are_known(data):
    rewrite(
        data / "transactions_train.csv",
        lambda text: "".join(
            line
            for line in text.splitlines(keepends=True)
            if ",0999999999," not in line and "9999999999999999" not in line
        ),
    )
    result = create("--data-dir", data)
    assert result.code == 0
    assert len(result.out.splitlines()) == 4  # the table


def test_importing_does_nothing(tmp_path):
    result = run(PYTHON, "-c", "import create_parquet_dataset", cwd=tmp_path, PYTHONPATH=str(FIXTURE.parents[1]))
    assert result == (0, "", "")
    assert not list(tmp_path.iterdir())


# The sample


@pytest.mark.parametrize(
    ("fraction", "seed", "kept"),
    [
        # By any other hash, other customers stay; these must never change.
        (0.25, 0, ["2", "3", "7"]),
        (0.5, 0, ["1", "2", "3", "6", "7"]),
        (1, 0, ["1", "2", "3", "4", "6", "7", "9"]),
        (0.5, 1, ["6", "7", "9"]),
        (0.5, 12345678901234567890, ["1", "3", "4", "6", "7", "9"]),
    ],
)
def test_pinned_samples_of_customers(data, fraction, seed, kept):
    assert create(fraction, "--seed", seed, "--data-dir", data).code == 0
    assert customers_kept(data) == kept


def test_pinned_sample_of_rows(data):
    assert create(0.25, "--by", "row", "--data-dir", data).code == 0
    table = parquet(data / "transactions_train")
    assert [(str(row.t_dat), row.customer_id[0], row.article_id) for row in table.itertuples()] == [
        ("2019-05-07", "3", "0100000001"),
        ("2019-05-08", "3", "0100000002"),
        ("2020-01-01", "7", "0100000002"),
        ("2020-09-22", "1", "0100000001"),
        ("2020-09-22", "9", "0100000001"),
    ]


@pytest.mark.parametrize("seed", [0, 7])
def test_customers_stay_whole_nested_and_in_proportion(synthetic_csv, tmp_path, seed):
    folder = copy_csv(synthetic_csv, tmp_path)
    transactions = read_csv(folder / "transactions_train.csv")
    rows_of = transactions["customer_id"].value_counts()
    smaller = set()
    for fraction in (0.1, 0.25, 0.7, 1):
        assert create(fraction, "--seed", seed, "--data-dir", folder).code == 0
        kept = parquet(folder / "transactions_train")["customer_id"].value_counts()
        assert (kept == rows_of[kept.index]).all()
        assert smaller <= set(kept.index)
        smaller = set(kept.index)
        assert within_chance(len(kept), len(rows_of), fraction)
    assert smaller == set(rows_of.index)
    for file in ("articles", "customers"):
        assert len(parquet(folder / file)) == len(read_csv(folder / f"{file}.csv"))


@pytest.mark.parametrize("by", ["customer", "row"])
def test_a_sample_is_the_one_that_md5_gives(synthetic_csv, tmp_path, by):
    folder = copy_csv(synthetic_csv, tmp_path)
    transactions = read_csv(folder / "transactions_train.csv")
    samples = []
    for fraction, seed in ((0.25, 0), (0.25, 7), (0.1, 7)):
        assert create(fraction, "--by", by, "--seed", seed, "--data-dir", folder).code == 0
        table = text_of(parquet(folder / "transactions_train"))
        expected = typed(sample(transactions, fraction, by, seed)).reset_index(drop=True)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
        samples.append(set(table.itertuples(index=False, name=None)))
    assert samples[0] != samples[1] > samples[2]
    if by == "row":  # identical rows stay together, so distinct rows are the units
        assert within_chance(len(samples[1]), len(transactions.drop_duplicates()), 0.25)


def within_chance(kept, of, fraction):
    """Is kept within five standard deviations of a binomial count?"""
    return abs(kept - of * fraction) <= 5 * (of * fraction * (1 - fraction)) ** 0.5


# Always the same


@pytest.mark.parametrize("by", ["customer", "row"])
def test_again_and_with_other_threads_the_same_bytes(large, tmp_path, by):
    folder, made = copy_csv(large, tmp_path), []
    for threads in (1, 2, 2):
        result = create_process(0.6, "--by", by, "--data-dir", folder, threads=threads)
        assert result.code == 0, result.err
        made.append(snapshot(folder))
    assert made[0] == made[1] == made[2]


def test_the_environment_sets_the_threads():
    """Else the test above would try one number of threads four times."""
    code = "import duckdb; print(duckdb.execute(\"select current_setting('threads')\").fetchone()[0])"
    assert [run(PYTHON, "-c", code, threads=n).out for n in (1, 4)] == ["1\n", "4\n"]


def columns_turned(text):
    return (
        pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        .iloc[:, ::-1]
        .to_csv(index=False, lineterminator="\n")
    )


def extra_columns(text):
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    table.insert(1, "weather", "sun, rain")
    return table.assign(**{"Note 1": "07"}).to_csv(index=False, lineterminator="\n")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(columns_turned, id="columns in another order"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(extra_columns, id="extra columns"),
        pytest.param(
            lambda text: pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False).to_csv(
                index=False, quoting=csv.QUOTE_ALL, lineterminator="\n"
            ),
            id="all cells quoted",
        ),
    ],
)
def test_other_ways_to_write_the_same_csv_give_the_same_tables(hand_made, data, change):
    for file in FILES:
        rewrite(data / f"{file}.csv", change)
    result = create("--data-dir", data)
    assert result.code == 0, result.err
    for file in FILES:
        expected = parquet(hand_made.folder / file)
        table = parquet(data / file)
        assert list(table) == list(read_csv(data / f"{file}.csv"))
        pd.testing.assert_frame_equal(table[list(expected)], expected, check_exact=True)
        for name, value in (("weather", "sun, rain"), ("Note 1", "07")):
            assert name not in table or set(table[name]) == {value}


def test_compressed_files_give_the_same_tables(hand_made, data):
    for file in FILES:
        path = data / f"{file}.csv"
        (data / f"{file}.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    result = create("--data-dir", data)
    assert result.code == 0, result.err
    for file in FILES:
        pd.testing.assert_frame_equal(parquet(data / file), parquet(hand_made.folder / file), check_exact=True)


# Bad input: one sentence, exit code not 0, the previous output untouched


def refused(data, *arguments, run=create):
    """The one sentence with which stage 1 refuses; nothing in the folder may change."""
    before = snapshot(data)
    result = run(*arguments, "--data-dir", data)
    assert result.code not in (0, None)
    assert "Traceback" not in result.err + result.out
    said = [line for line in result.err.splitlines() if "create_parquet_dataset.py: error: " in line]
    assert len(said) == 1
    assert snapshot(data) == before
    return said[0]


@pytest.fixture
def made(hand_made, data):
    """The hand-written CSV files with the output of an earlier run."""
    for file in (*FILES, RECORD):
        (data / file).write_bytes((hand_made.folder / file).read_bytes())
    return data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["0"], ["FRACTION", "0", "(0, 1]"]),
        (["-0.1"], ["-0.1"]),
        (["1.5"], ["FRACTION", "1.5", "(0, 1]"]),
        (["abc"], ["FRACTION", "abc", "(0, 1]"]),
        (["nan"], ["FRACTION", "nan", "(0, 1]"]),
        (["inf"], ["FRACTION", "inf", "(0, 1]"]),
        (["--seed", "-1"], ["--seed", "-1", "0"]),
        (["--seed", "1.5"], ["--seed", "1.5", "whole number"]),
        (["--by", "day"], ["--by", "day", "customer", "row"]),
        (["--memory-limit", "lots"], ["lots", "GB"]),
        # The hash of no customer with a purchase is that low.
        (["0.001"], ["no purchase", "0.001", "transactions_train.csv", "--seed"]),
    ],
)
def test_bad_arguments(made, arguments, words):
    said = refused(made, *arguments)
    assert all(word in said for word in words), said


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_not_there(made, file):
    (made / f"{file}.csv").unlink()
    said = refused(made)
    assert f"{file}.csv" in said and "missing" in said and "--data-dir" in said


def test_a_folder_that_is_not_there(tmp_path):
    result = create("--data-dir", tmp_path / "nowhere")
    assert result.code == 1
    assert "nowhere" in result.err and "Traceback" not in result.err
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda text: "", ["empty"], id="empty"),
        pytest.param(lambda text: text.split("\n", 1)[0] + "\n", ["header", "row"], id="only a header"),
        pytest.param(lambda text: text.split("\n", 1)[1], ["line 1", "header"], id="no header"),
        pytest.param(lambda text: text[:-1], ["newline"], id="cut before the last newline"),
        pytest.param(lambda text: text[:-4], ["newline"], id="cut in the last cell"),
        pytest.param(lambda text: text[:-1] + ",more\n", ["line ", "cells"], id="a cell too many"),
        pytest.param(lambda text: text + "x\n", ["line ", "cells"], id="cells too few"),
    ],
)
def test_a_damaged_file(made, file, change, words):
    rewrite(made / f"{file}.csv", change)
    said = refused(made)
    assert all(word in said for word in [f"{file}.csv", *words]), said


@pytest.mark.parametrize(("file", "column"), [(file, column) for file in FILES for column in NEEDED[file]])
def test_a_needed_column_missing_or_named_twice(made, file, column):
    path = made / f"{file}.csv"
    good = path.read_bytes()
    for change, words in (
        (lambda header: [f"x{name}" if name == column else name for name in header], "missing"),
        (lambda header: [*header[:-1], column] if header[-1] != column else [column, *header[1:]], "twice"),
    ):
        header, rows = good.decode().split("\n", 1)
        path.write_text(",".join(change(header.split(","))) + "\n" + rows)
        said = refused(made)
        # When the last column is named twice, the first is missing; either may be said.
        assert f"{file}.csv" in said and "line 1" in said, said
        assert (column in said and words in said) or "missing" in said, said


@pytest.mark.parametrize("name", ["", "Price"])
def test_an_extra_column_without_a_name_or_with_that_of_another(made, name):
    """pandas writes its index without a name; to DuckDB Price and price are one."""
    lines = (made / "transactions_train.csv").read_text().splitlines()
    lines = [name + "," + lines[0], *("1," + line for line in lines[1:])]
    (made / "transactions_train.csv").write_text("\n".join(lines) + "\n")
    assert "transactions_train.csv, line 1" in refused(made)


BAD_CELLS = [
    *(
        ("transactions_train", "t_dat", value)
        for value in (
            "",
            "2020-13-01",
            "2020-02-30",
            "20200901",
            "01/09/2020",
            "yesterday",
            "nan",
            "infinity",
            "2020-09-01 10:00:00",
            "2020-09",
        )
    ),
    *(("transactions_train", "price", value) for value in ("", "abc", "nan", "inf", "-inf", "1,5", "0x1f", "1_0")),
    *(
        ("transactions_train", "sales_channel_id", value)
        for value in ("", "abc", "nan", "inf", "2.7", "1e300", "99999999999999999999")
    ),
    *(
        (file, "article_id", value)
        for file in ("articles", "transactions_train")
        for value in ("", "abc", "nan", "2.7", "-100000001", "100000001", "01000000012")
    ),
    ("articles", "product_code", "2.7"),
    *(
        ("articles", column, value)
        for column in NEEDED["articles"]
        if column not in ("article_id", "product_code", "product_group_name", "index_code")
        for value in ("", "abc", "nan", "inf", "2.7")
    ),
    ("articles", "product_code", ""),
    ("articles", "product_group_name", ""),
    ("articles", "index_code", ""),
    ("customers", "customer_id", ""),
    ("transactions_train", "customer_id", ""),
    *(("customers", column, value) for column in ("FN", "Active", "age") for value in ("abc", "nan", "inf")),
]


@pytest.mark.parametrize(("file", "column", "value"), BAD_CELLS)
def test_a_bad_cell(made, file, column, value):
    path = made / f"{file}.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[4, column] = value
    table.to_csv(path, index=False, lineterminator="\n")
    said = refused(made)
    assert f"{file}.csv, line 6, column {column}" in said, said
    assert repr(value) in said or (value == "" and "empty" in said), said


@pytest.mark.parametrize("file", FILES)
def test_bytes_that_are_no_text(made, file):
    path = made / f"{file}.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].rstrip(b"\n") + b"\xff\n"
    path.write_bytes(b"".join(lines))
    assert f"{file}.csv, line 4" in refused(made)


@pytest.mark.parametrize(("file", "key"), [("articles", "article_id"), ("customers", "customer_id")])
def test_a_key_that_is_there_twice(made, file, key):
    path = made / f"{file}.csv"
    rewrite(path, lambda text: text + text.splitlines()[3] + "\n")
    said = refused(made)
    assert f"{file}.csv" in said and key in said and read_csv(path)[key][2] in said


@pytest.mark.parametrize("ends", [("\n", "\r\n"), ("\r\n", "\n"), ("\n", "\r"), ("\r\n", "\r")], ids=repr)
@pytest.mark.parametrize("allowed", [0, 100])
def test_lines_that_end_in_different_ways(made, ends, allowed):
    most, one = ends
    lines = (made / "transactions_train.csv").read_text().splitlines()
    text = most.join(lines[:5]) + one + most.join(lines[5:]) + most
    (made / "transactions_train.csv").write_bytes(text.encode())
    said = refused(made, "--max-bad-rows", allowed)
    assert "transactions_train.csv, line 5: the line ends in" in said and repr(one) in said and repr(most) in said


def test_a_compressed_file_that_is_none_cut_off_or_damaged(made):
    path = made / "customers.csv"
    text = path.read_bytes()
    path.unlink()
    packed = gzip.compress(text)
    middle = len(packed) // 2
    for content in (b"", text, packed[:-30], packed[:middle] + b"\xff" * 9 + packed[middle + 9 :]):
        (made / "customers.csv.gz").write_bytes(content)
        assert "customers.csv.gz" in refused(made)


def test_bad_input_in_a_process_of_its_own(made):
    """The same refusals as a user meets them, one of each kind: arguments, cell, sample."""
    refused(made, "2", run=create_process)
    refused(made, "0.001", run=create_process)
    rewrite(made / "transactions_train.csv", lambda text: text.replace("2020-09-08", "8 Sep", 1))
    said = refused(made, run=create_process)
    assert said.startswith("create_parquet_dataset.py: error: ") and "line 28" in said


@pytest.mark.parametrize("how", ["replaced", "appended to", "cut"])
def test_a_file_that_changes_while_it_is_read(made, monkeypatch, how):
    """The change is told, not an error that it led to; without one, the content hash would be of another file."""
    path, write_table = made / "articles.csv", tables.Tables.write_table

    def write_and_change(self, *arguments):
        if how == "cut":
            os.truncate(path, 1000)
        rows = write_table(self, *arguments)
        if how == "replaced":
            other = path.with_name("other")
            other.write_bytes(path.read_bytes())
            other.replace(path)
        elif how == "appended to":
            with path.open("a") as file:
                file.write("\n")
        return rows

    before = snapshot(made)
    monkeypatch.setattr(tables.Tables, "write_table", write_and_change)
    result = create("--data-dir", made)
    assert result.code == 1
    assert "articles.csv was changed while it was read: start again" in result.err
    assert {name: content for name, content in snapshot(made).items() if name.name != "articles.csv"} == {
        name: content for name, content in before.items() if name.name != "articles.csv"
    }


def test_a_bad_line_that_speaks_of_memory_is_a_bad_line(data):
    """DuckDB quotes the line in its error, which is no lack of memory then."""
    with (data / "transactions_train.csv").open("a") as file:
        file.write("2018-09-20,Out of Memory,0108775015,0.01,1,one cell too many\n")
    result = create("--max-bad-rows", 1, "--data-dir", data)
    assert result.code == 0, result.err
    assert "Out of Memory" in (data / "rejects.csv").read_text()


@pytest.mark.parametrize("limit", ["1MB", "4MB"])
def test_too_little_memory_names_the_way_out(data, limit):
    result = create("--memory-limit", limit, "--data-dir", data)
    assert result.code == 1 and "set MEMORY_LIMIT to more" in result.err, result.err
