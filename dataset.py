"""The data set that stage 2 leaves: is it fit to train on, and its split by date into three tables."""

import datetime
import functools
import io
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from metaflow.exception import MetaflowException

from engine import literal, path_literal

# Columns of filtered_dataframe, in their order: the published interface.
SCHEMA = pa.schema(
    [
        ("article_id", pa.int64()),
        ("product_code", pa.int64()),
        ("product_type_no", pa.int64()),
        ("product_group_name", pa.string()),
        ("graphical_appearance_no", pa.int64()),
        ("colour_group_code", pa.int64()),
        ("perceived_colour_value_id", pa.int64()),
        ("perceived_colour_master_id", pa.int64()),
        ("department_no", pa.int64()),
        ("index_code", pa.string()),
        ("index_group_no", pa.int64()),
        ("section_no", pa.int64()),
        ("garment_group_no", pa.int64()),
        ("active", pa.float64()),
        ("fn", pa.float64()),
        ("age", pa.float64()),
        ("club_member_status", pa.string()),
        ("customer_id", pa.string()),
        ("fashion_news_frequency", pa.string()),
        ("postal_code", pa.string()),
        ("price", pa.float64()),
        ("sales_channel_id", pa.int64()),
        ("t_dat", pa.timestamp("us")),
        ("quantity", pa.int64()),
    ]
)
ARTICLE_COLUMNS = SCHEMA.names[:13]
TEXT_COLUMNS = [field.name for field in SCHEMA if pa.types.is_string(field.type)]
SQL_TYPES = {pa.int64(): "bigint", pa.float64(): "double", pa.string(): "varchar", pa.timestamp("us"): "timestamp"}
# A row group holds one dictionary for each text column. The larger the group, the fewer times the
# 64-character ids are written, and the more rows wait in memory for it to fill.
ROWS_PER_GROUP = 2_000_000
ROWS_PER_PROGRESS_LINE = 5_000_000


class DatasetError(MetaflowException):
    """Why the data set cannot be prepared, in one sentence: Metaflow prints it without a traceback."""

    headline = "The data set cannot be prepared"


def parse_day(name, text):
    """The day that the parameter `name` holds, as a datetime at midnight."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        raise DatasetError(f"--{name} is {text!r}: it must be a day such as 2020-09-08.") from None


def scan(path):
    """SQL that reads the parquet file, or the folder of part files in the order of their names."""
    return f"read_parquet({path_literal(path)})"


def check_dataset(con, path, training_end_date):
    """Refuse a data set that is missing, damaged, empty or filtered with knowledge of later days.

    Returns a sentence to print when the file does not say how it was filtered, else None.
    """
    if not Path(path).exists():
        raise DatasetError(f"the data set {path} is missing: make it with `cd dbt && dbt run`, or name it with --dataset.")
    try:
        columns = [row[0] for row in con.execute(f"describe select * from {scan(path)}").fetchall()]
        (rows,) = con.execute(f"select count(*) from {scan(path)}").fetchone()
    except duckdb.Error as error:
        raise DatasetError(f"the data set {path} is no parquet file that can be read ({str(error).splitlines()[0]}): make it again with `cd dbt && dbt run`.") from error
    missing = [name for name in SCHEMA.names if name not in columns]
    if missing:
        raise DatasetError(f"the data set {path} lacks the column {', '.join(missing)}: make it again with `cd dbt && dbt run`.")
    if rows == 0:
        raise DatasetError(
            f"the data set {path} has no row: take an earlier first purchase into account with a later training_end_date or a smaller min_interactions in dbt."
        )
    marks = con.execute(
        f"select distinct decode(value) from parquet_kv_metadata({path_literal(path)}) where decode(key) = 'training_end_date'"
    ).fetchall()
    if marks:
        filtered_with = parse_day("training_end_date of the data set", max(mark for (mark,) in marks))
        if filtered_with > training_end_date:
            raise DatasetError(
                f"the data set {path} was filtered with training_end_date {filtered_with:%Y-%m-%d}, later than this run's {training_end_date:%Y-%m-%d}, so later days decided who is in it:"
                f" run dbt again with --vars '{{training_end_date: {training_end_date:%Y-%m-%d}}}'."
            )
        return None
    (late,) = con.execute(
        f"select count(*) from (select customer_id from {scan(path)} group by 1 having min(t_dat) >= {literal(training_end_date)}::timestamp)"
    ).fetchone()
    if late:
        raise DatasetError(
            f"the data set {path} does not say how it was filtered, and {late:,} of its customers bought nothing before {training_end_date:%Y-%m-%d}, so later days decided who is in it:"
            f" filter it with training_end_date {training_end_date:%Y-%m-%d} or earlier."
        )
    return f"{path} does not say how it was filtered; its rows were checked: every customer bought something before {training_end_date:%Y-%m-%d}."


def dataset_query(path, row_sampling, sampling_seed):
    """SQL for the rows of the run, with the types of SCHEMA whatever engine wrote them.

    The seeded Bernoulli sample is the same for any number of threads.
    """
    columns = ", ".join(f"cast({field.name} as {SQL_TYPES[field.type]}) as {field.name}" for field in SCHEMA)
    sample = f" using sample {row_sampling} percent (bernoulli, {sampling_seed})" if row_sampling else ""
    return f"select {columns} from {scan(path)}{sample}"


class ParquetTable:
    """A table as parquet bytes, which unpickles as a plain pyarrow.Table.

    The one who reads the artifact needs pyarrow and nothing of this project, and the step that
    stores it never holds the table. Text columns load dictionary-encoded (pandas: category), which
    takes a third of the memory of plain strings.
    """

    def __init__(self, path):
        self.data = Path(path).read_bytes()

    def __reduce__(self):
        return functools.partial(pq.read_table, read_dictionary=TEXT_COLUMNS), (io.BytesIO(self.data),)


class TableWriter:
    """Writes record batches as one parquet file with few, large row groups."""

    def __init__(self, path):
        self._writer = pq.ParquetWriter(
            path, SCHEMA, compression="zstd", dictionary_pagesize_limit=1 << 30
        )
        self._waiting, self._rows_waiting = [], 0

    def write(self, batch):
        self._waiting.append(batch)
        self._rows_waiting += batch.num_rows
        if self._rows_waiting >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self):
        self._writer.write_table(pa.Table.from_batches(self._waiting, SCHEMA), row_group_size=2 * ROWS_PER_GROUP)
        self._waiting, self._rows_waiting = [], 0

    def close(self):
        if self._waiting:
            self._flush()
        self._writer.close()


def split_by_date(batches, training_end_date, validation_end_date, folder):
    """Write the rows into train, valid and test by their day, each in the order it came.

    train: t_dat < training_end_date; valid: training_end_date <= t_dat < validation_end_date;
    test: validation_end_date <= t_dat. All three are written, empty or not.

    Returns the paths of the three parquet files in `folder`, by label.
    """
    paths = {label: Path(folder) / f"{label}.parquet" for label in ("train", "valid", "test")}
    writers = {label: TableWriter(path) for label, path in paths.items()}
    bounds = {
        "train": (datetime.datetime.min, training_end_date),
        "valid": (training_end_date, validation_end_date),
        "test": (validation_end_date, datetime.datetime.max),
    }
    rows = 0
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
    for writer in writers.values():
        writer.close()
    return paths


def summarize(con, paths):
    """Rows, units, customers, articles, first and last day of each split."""
    columns = ["rows", "units", "customers", "articles", "first_day", "last_day"]
    return {
        label: dict(
            zip(
                columns,
                con.execute(
                    "select count(*), coalesce(sum(quantity), 0)::bigint, count(distinct customer_id),"
                    f" count(distinct article_id), min(t_dat)::date, max(t_dat)::date from {scan(path)}"
                ).fetchone(),
                strict=True,
            )
        )
        for label, path in paths.items()
    }


def article_metadata(con, paths):
    """str(article_id) -> dict of the 13 article columns, for every article of the tables.

    Nothing of a purchase is in it: neither a customer nor a price of the test weeks.
    """
    columns = ", ".join(ARTICLE_COLUMNS)
    everywhere = " union all ".join(f"select {columns} from {scan(path)}" for path in paths.values())
    rows = con.execute(f"select distinct {columns} from ({everywhere}) order by article_id").to_arrow_table().to_pylist()
    return {str(row["article_id"]): row for row in rows}
