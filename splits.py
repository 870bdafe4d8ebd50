"""The split by date: three tables, what they hold, and the proof that no later day touched train."""

import contextlib
import datetime
import importlib
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from dataset import ARTICLE_COLUMNS, CUSTOMER_COLUMNS, SCHEMA, DatasetError, ask, day_literal, read_batches
from engine import scan
from fingerprint import fingerprint
from table_writer import TableWriter

LABELS = ("train", "valid", "test")
NOT_ASKED = "not asked of a sample of the rows"
# A row group holds one dictionary for each text column. The fewer groups, the fewer times the
# 64-character ids are written and held by the reader, and the more rows wait here for one to fill.
ROW_GROUPS = 8
SMALLEST_ROW_GROUP = 100_000
ROWS_PER_PROGRESS_LINE = 5_000_000


class Call:
    """Unpickles as what the function returns for these arguments."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self._call


def public(module: str, name: str, *arguments: Any) -> Call:
    """The call module.name(*arguments), stored by public names alone: a class itself would be by its private module."""
    return Call(operator.methodcaller(name, *arguments), Call(importlib.import_module, module))


def stored_table(path: Path) -> Call:
    """The parquet file as an artifact that unpickles as a plain pyarrow.Table.

    The one who reads it needs pyarrow, of any version, and nothing of this project, and the step that
    stores it never holds the table. Not io.BytesIO, which copies the bytes, and not read_table(), whose
    threads abort one in twenty processes that end right after it.
    """
    file = public("pyarrow", "BufferReader", path.read_bytes())
    return Call(operator.methodcaller("read"), public("pyarrow.parquet", "ParquetFile", file))


def stored_array(array: pa.Array) -> Call:
    """The array as an artifact that unpickles as a plain pyarrow.Array, by public names alone."""
    sink = pa.BufferOutputStream()
    table = pa.table({"values": array})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream = public("pyarrow.ipc", "open_stream", public("pyarrow", "BufferReader", sink.getvalue().to_pybytes()))
    column = Call(operator.methodcaller("column", 0), Call(operator.methodcaller("read_all"), stream))
    return Call(operator.methodcaller("combine_chunks"), column)


def split_paths(folder: Path) -> dict[str, Path]:
    """Where the three splits are written, by label."""
    return {label: folder / f"{label}.parquet" for label in LABELS}


def split_by_date(
    batches: Iterable[pa.RecordBatch],
    rows_expected: int,
    training_end_date: datetime.datetime,
    validation_end_date: datetime.datetime,
    folder: Path,
) -> dict[str, Path]:
    """Write the rows into train, valid and test by their day, each in the order it came.

    train: t_dat < training_end_date; valid: training_end_date <= t_dat < validation_end_date;
    test: validation_end_date <= t_dat. All three are written, empty or not.

    `rows_expected`, about the number of rows to come, decides how large a row group is.
    Returns the paths of the three parquet files in `folder`, by label.
    """
    paths = split_paths(folder)
    group_rows = max(SMALLEST_ROW_GROUP, rows_expected // ROW_GROUPS)
    bounds = {
        "train": (datetime.datetime.min, training_end_date),
        "valid": (training_end_date, validation_end_date),
        "test": (validation_end_date, datetime.datetime.max),
    }
    rows = 0
    with contextlib.ExitStack() as files:
        writers = {
            label: files.enter_context(TableWriter(path, SCHEMA, group_rows, dictionary_pagesize_limit=1 << 30))
            for label, path in paths.items()
        }
        for batch in batches:
            if batch.num_rows == 0:
                continue
            days = batch.column("t_dat")
            first, last = pc.min_max(days).as_py().values()
            for label, (start, end) in bounds.items():
                if start <= first and last < end:
                    writers[label].write(batch)
                elif first < end and start <= last:
                    writers[label].write(batch.filter(pc.and_(pc.greater_equal(days, start), pc.less(days, end))))
            if rows // ROWS_PER_PROGRESS_LINE < (rows := rows + batch.num_rows) // ROWS_PER_PROGRESS_LINE:
                print(f"{rows:,} rows")
    written = sum(writer.rows for writer in writers.values())
    if written != rows:
        raise DatasetError(
            f"{rows:,} rows were read and {written:,} written to the splits, so rows would be lost: please report it."
        )
    return paths


def example_row(con: duckdb.DuckDBPyConnection, dataset: str, query: str) -> dict[str, Any]:
    """One row of the query, without what it says of the customer: logs stay."""
    shown = [name for name in SCHEMA.names if name not in CUSTOMER_COLUMNS]
    for batch in read_batches(con, dataset, f"select {', '.join(shown)} from ({query}) limit 1"):
        for row in batch.to_pylist():
            return row
    return {}


def rows_by_split(
    con: duckdb.DuckDBPyConnection,
    dataset: str,
    files: list[Path],
    training_end_date: datetime.datetime,
    validation_end_date: datetime.datetime,
) -> dict[str, Any]:
    """What the data set has before row sampling: rows, units, first_day, last_day, rows of each split's days."""
    start, middle = day_literal(training_end_date), day_literal(validation_end_date)
    day = "cast(t_dat as timestamp)"
    counts = {
        "rows": "count(*)",
        "units": "sum(quantity)::bigint",
        "first_day": f"min({day})::date",
        "last_day": f"max({day})::date",
        "train": f"count(*) filter ({day} < {start})",
        "valid": f"count(*) filter ({day} >= {start} and {day} < {middle})",
        "test": f"count(*) filter ({day} >= {middle})",
    }
    (row,) = ask(con, dataset, f"select {', '.join(counts.values())} from {scan(*files)}")
    return dict(zip(counts, row, strict=True))


def check_splits(
    summary: dict[str, dict[str, Any]],
    available: dict[str, Any],
    training_end_date: datetime.datetime,
    validation_end_date: datetime.datetime,
    row_sampling: int,
) -> list[str]:
    """Refuse a run without a row to train on; returns what is to be said of the splits."""
    rows = {label: split["rows"] for label, split in summary.items()}
    if rows["train"] == 0:
        raise DatasetError(
            f"no row to train on before {training_end_date:%Y-%m-%d}"
            f" (validation_end_date {validation_end_date:%Y-%m-%d}); the data set has the days"
            f" {available['first_day']} to {available['last_day']}, of which --row_sampling {row_sampling} kept"
            f" {sum(rows.values()):,} rows: take all with --row_sampling 0, or dates within these days."
        )
    notices = [
        f"# {rows['train']:,} events in the training set, {rows['valid']:,} for validation, {rows['test']:,} for test"
    ]
    for label in ("valid", "test"):
        if rows[label] == 0 and available[label] == 0:
            notices.append(
                f"ATTENTION: {label} IS EMPTY: the data set has no row of its days (it ends on"
                f" {available['last_day']}); it is stored without rows"
            )
        elif rows[label] == 0:
            notices.append(
                f"ATTENTION: {label} IS EMPTY: the data set has {available[label]:,} rows of its days, and the sample"
                f" of {row_sampling} percent drew none; take all with --row_sampling 0, or a larger percent"
            )
    return notices


def fail_if_leaking(leak_check: dict[str, str]) -> None:
    """Raise DatasetError for the first broken rule."""
    for rule, verdict in leak_check.items():
        if verdict.startswith("broken"):
            raise DatasetError(f"the split leaks: '{rule}' is {verdict}; please report it.")


def summarize(con: duckdb.DuckDBPyConnection, paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What each split holds, by label: rows, units, customers, articles, first_day, last_day, fingerprint.

    For valid and test also what train has never seen: new_customers and new_articles, and the rows
    that they are in. Leaves the tables train_customers (customer_id, lines) and train_articles
    (article_id) in `con`.
    """
    train = scan(paths["train"])
    con.execute(
        "create or replace temp table train_customers as"
        f" select customer_id, count(*) as lines from {train} group by all"
    )
    con.execute(f"create or replace temp table train_articles as select distinct article_id from {train}")
    summary = {}
    for label, path in paths.items():
        counts = {
            "rows": "count(*)",
            "units": "coalesce(sum(quantity), 0)::bigint",
            "customers": "count(distinct customer_id)",
            "articles": "count(distinct article_id)",
            "first_day": "min(t_dat)::date",
            "last_day": "max(t_dat)::date",
        }
        if label == "train":
            counts["customers"] = "(select count(*) from train_customers)"
            counts["articles"] = "(select count(*) from train_articles)"
        else:
            for name, key in (("customers", "customer_id"), ("articles", "article_id")):
                new = f"filter ({key} not in (select {key} from train_{name}))"
                counts[f"new_{name}"] = f"count(distinct {key}) {new}"
                counts[f"rows_of_new_{name}"] = f"count(*) {new}"
        row = con.sql(f"select {', '.join(counts.values())} from {scan(path)}").fetchall()[0]
        summary[label] = dict(zip(counts, row, strict=True), fingerprint=fingerprint(path, SCHEMA))
    return summary


def check_for_leaks(
    con: duckdb.DuckDBPyConnection,
    paths: dict[str, Path],
    training_end_date: datetime.datetime,
    validation_end_date: datetime.datetime,
    min_lines: int,
    item_columns: Iterable[str],
) -> dict[str, str]:
    """Look at the tables themselves for a future day on the wrong side; after summarize().

    `min_lines` is what each customer must have in train, 0 for a sample of the rows, of which that
    cannot be asked. Returns a dict: the rule in words -> 'passed', 'broken by ...' or NOT_ASKED.
    """
    train, valid, test = (scan(paths[label]) for label in LABELS)
    training_end, validation_end = day_literal(training_end_date), day_literal(validation_end_date)
    keys = "customer_id, article_id, t_dat, price, sales_channel_id"
    later = f"(select {keys} from {valid} union all select {keys} from {test})"
    breaches = {
        f"train ends before {training_end_date:%Y-%m-%d}": (
            f"select count(*) from {train} where t_dat >= {training_end}"
        ),
        f"valid begins on {training_end_date:%Y-%m-%d} and ends before {validation_end_date:%Y-%m-%d}": (
            f"select count(*) from {valid} where t_dat < {training_end} or t_dat >= {validation_end}"
        ),
        f"test begins on {validation_end_date:%Y-%m-%d}": f"select count(*) from {test} where t_dat < {validation_end}",
        "no purchase line is in two splits": (
            f"select (select count(*) from {train} semi join {later} using ({keys}))"
            f" + (select count(*) from {valid} semi join {test} using ({keys}))"
        ),
    }
    if min_lines:
        breaches[f"every customer has at least {min_lines} lines in train"] = (
            f"select count(*) from (select customer_id from train_customers where lines < {min_lines}"
            f" union all select customer_id from {later} anti join train_customers using (customer_id))"
        )
    verdict = {}
    for rule, query in breaches.items():
        count = con.sql(query).fetchall()[0][0]
        verdict[rule] = f"broken by {count:,}" if count else "passed"
    if not min_lines:
        verdict["every customer has enough lines in train"] = NOT_ASKED
    foreign = sorted(set(item_columns) - set(ARTICLE_COLUMNS))
    verdict["item_id_2_meta holds no column of a purchase"] = f"broken by {', '.join(foreign)}" if foreign else "passed"
    return verdict


def article_metadata(con: duckdb.DuckDBPyConnection, paths: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """str(article_id) -> dict of the 13 article columns, for every article of the tables.

    Nothing of a purchase is in it: neither a customer nor a price of the test weeks.
    """
    columns = ", ".join(ARTICLE_COLUMNS)
    everywhere = " union all ".join(f"select {columns} from {scan(path)}" for path in paths.values())
    rows = con.sql(f"select distinct {columns} from ({everywhere}) order by article_id").to_arrow_table()
    return {str(row["article_id"]): row for row in rows.to_pylist()}
