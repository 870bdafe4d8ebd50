"""The split by date: three tables, what they hold, and the proof that no later day touched train."""

import contextlib
import datetime
import functools
import operator
import os
import shutil
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset import ARTICLE_COLUMNS, SCHEMA, TEXT_COLUMNS, DatasetError
from engine import first_line, literal, scan
from fingerprint import fingerprint
from lineage import LineageError, hold
from table_writer import TableWriter

# A row group holds one dictionary for each text column. The fewer groups, the fewer times the
# 64-character ids are written and held by the reader, and the more rows wait here for one to fill.
ROW_GROUPS = 8
SMALLEST_ROW_GROUP = 100_000
ROWS_PER_PROGRESS_LINE = 5_000_000


@contextlib.contextmanager
def temporary_folder():
    """A folder for the splits before they are artifacts; what killed runs left of theirs is removed."""
    try:
        for left in Path(tempfile.gettempdir()).glob("DataPrepFlow-splits-*"):
            # A run holds its folder before it writes, so only an empty one may be of a run that begins.
            with contextlib.suppress(LineageError, OSError):
                if any(left.iterdir()):
                    os.close(hold(left))
                    shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="DataPrepFlow-splits-") as folder:
            held = hold(folder)
            try:
                yield folder
            finally:
                os.close(held)
    except OSError as error:
        raise DatasetError(
            f"the splits cannot be written to a temporary folder ({error}): set TMPDIR to one with room for them."
        ) from error
    except duckdb.OperationalError as error:
        raise DatasetError(
            f"DuckDB gave up on the splits ({first_line(error)}): set MEMORY_LIMIT to more, such as 2GB,"
            " or free some disk."
        ) from error


class Call:
    """Unpickles as what the function returns for these arguments."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def stored_table(path):
    """The parquet file as an artifact that unpickles as a plain pyarrow.Table.

    The one who reads it needs pyarrow and nothing of this project, and the step that stores it never
    holds the table. Text columns load dictionary-encoded (pandas: category), which takes a third of
    the memory of plain strings. Not io.BytesIO, which copies the bytes, and not read_table(), whose
    threads abort one in twenty processes that end right after it.
    """
    file = Call(pa.BufferReader, Path(path).read_bytes())
    return Call(
        operator.methodcaller("read"), Call(functools.partial(pq.ParquetFile, read_dictionary=TEXT_COLUMNS), file)
    )


def split_by_date(batches, rows_expected, training_end_date, validation_end_date, folder):
    """Write the rows into train, valid and test by their day, each in the order it came.

    train: t_dat < training_end_date; valid: training_end_date <= t_dat < validation_end_date;
    test: validation_end_date <= t_dat. All three are written, empty or not.

    `rows_expected`, about the number of rows to come, decides how large a row group is.
    Returns the paths of the three parquet files in `folder`, by label.
    """
    paths = {label: Path(folder) / f"{label}.parquet" for label in ("train", "valid", "test")}
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
        raise DatasetError(f"{rows:,} rows were read and {written:,} written to the splits: report this as a bug.")
    return paths


def summarize(con, paths):
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


def check_for_leaks(con, paths, training_end_date, validation_end_date, min_lines, item_columns):
    """Look at the tables themselves for a future day on the wrong side; after summarize().

    `min_lines` is what each customer must have in train, 0 for a sample of the rows.
    Returns a dict: the rule in words -> 'passed' or what breaks it.
    """
    train, valid, test = (scan(paths[label]) for label in ("train", "valid", "test"))
    training_end, validation_end = (f"timestamp {literal(day)}" for day in (training_end_date, validation_end_date))
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
    foreign = sorted(set(item_columns) - set(ARTICLE_COLUMNS))
    verdict["item_id_2_meta holds no column of a purchase"] = f"broken by {', '.join(foreign)}" if foreign else "passed"
    return verdict


def article_metadata(con, paths):
    """str(article_id) -> dict of the 13 article columns, for every article of the tables.

    Nothing of a purchase is in it: neither a customer nor a price of the test weeks.
    """
    columns = ", ".join(ARTICLE_COLUMNS)
    everywhere = " union all ".join(f"select {columns} from {scan(path)}" for path in paths.values())
    rows = con.sql(f"select distinct {columns} from ({everywhere}) order by article_id").to_arrow_table()
    return {str(row["article_id"]): row for row in rows.to_pylist()}
