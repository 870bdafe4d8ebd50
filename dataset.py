"""The data set that stage 2 leaves: its columns, how it is read, and whether it is fit to train on."""

import datetime
import json
from pathlib import Path

import duckdb
import pyarrow as pa
from metaflow.exception import MetaflowException

import database
from engine import first_line, literal, path_literal, scan
from lineage import STAGE_1, STAGE_2, LineageError, check_identity, file_identity, read_record

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
SQL_TYPES = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.timestamp("us"): "TIMESTAMP",
}
LINE_ORDER = ("t_dat", "customer_id", "article_id", "sales_channel_id", "price")  # of the rows
BATCH_ROWS = 100_000
DBT_RUN = "`cd dbt && dbt run`"


class DatasetError(MetaflowException):
    """Why the data set cannot be prepared, in one sentence: Metaflow prints it without a traceback."""

    headline = "The data set cannot be prepared"


def parse_day(name, text):
    """The day that the parameter `name` holds, as a datetime at midnight."""
    try:
        day = datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        day = None
    if day is None or f"{day:%Y-%m-%d}" != text:  # it is shown and compared as it was given
        raise DatasetError(f"--{name} is {text!r}: it must be a day such as 2020-09-08.")
    return day


def dataset_query(con, path, row_sampling=0, sampling_seed=0):
    """SQL for the rows of the run, with the types of SCHEMA whatever engine wrote them.

    The seeded Bernoulli sample is the same for any number of threads.
    """
    types = dict(con.sql(f"select column_name, column_type from (describe from {scan(path)})").fetchall())
    columns = ", ".join(
        field.name
        if types[field.name] == SQL_TYPES[field.type]
        else f"cast({field.name} as {SQL_TYPES[field.type]}) as {field.name}"
        for field in SCHEMA
    )
    sample = f" using sample {row_sampling} percent (bernoulli, {sampling_seed})" if row_sampling else ""
    return f"select {columns} from {scan(path)}{sample}"


def check_dataset(con, path, training_end_date):
    """Refuse a data set that is missing, damaged, empty, of another run, or filtered with later days.

    Returns (lineage, notice): what is recorded of the data set's making, {} where nothing is, and then
    a sentence that says so, else None. The content hash is left to check_content().
    """
    columns, marks = describe(con, path)
    missing = [name for name in SCHEMA.names if name not in columns]
    if missing:
        raise DatasetError(f"the data set {path} lacks the column {', '.join(missing)}: make it again with {DBT_RUN}.")
    ((rows,),) = ask(con, path, "select count(*) from {dataset}")
    if rows == 0:
        raise DatasetError(
            f"the data set {path} has no row: run dbt again with a later training_end_date or a"
            " smaller min_interactions."
        )
    try:
        inside = json.loads(marks.get("lineage", "{}"))
        filtered_until = datetime.datetime.fromisoformat(marks.get("training_end_date", "0001-01-01"))
    except ValueError as error:
        raise unreadable(path, error) from error
    lineage = {} if database.is_uri(path) else check_chain(Path(path), inside)
    if "training_end_date" not in marks:
        check_rows(con, path, training_end_date)
        return lineage, (
            f"{path} does not say what made it (another engine?), so its rows were checked:"
            f" every customer bought something before {training_end_date:%Y-%m-%d}"
        )
    if filtered_until > training_end_date:
        raise DatasetError(
            f"the data set {path} was filtered with training_end_date {filtered_until:%Y-%m-%d}, later than this run's"
            f" {training_end_date:%Y-%m-%d}, so later days decided who is in it: run dbt again with"
            f" --vars '{{training_end_date: \"{training_end_date:%Y-%m-%d}\"}}'."
        )
    return (
        lineage,
        None if "outputs" in lineage else f"{path} has no {STAGE_2} beside it, so damage would not be seen",
    )


def describe(con, path):
    """The columns of the data set, and {key: value} of what its parquet files say of their making."""
    if database.is_uri(path):
        return database.columns(path), {}
    path = Path(path)
    if not path.exists():
        raise DatasetError(f"the data set {path} is missing: make it with {DBT_RUN}, or name it with --dataset.")
    # Below `_temporary` too: there lies what a Spark that was killed had written.
    if any(path.rglob("part-[0-9][0-9][0-9][0-9][0-9]-*")) and not (path / "_SUCCESS").exists():
        raise DatasetError(f"the data set {path} has no _SUCCESS, so Spark did not finish it: run dbt again.")
    try:
        columns = [name for (name,) in con.sql(f"select column_name from (describe from {scan(path)})").fetchall()]
        marks = con.sql(
            f"select decode(key), max(decode(value)) from parquet_kv_metadata({path_literal(path)})"
            " where decode(key) in ('training_end_date', 'lineage') group by all"
        ).fetchall()
    except duckdb.Error as error:
        raise unreadable(path, error) from error
    return columns, dict(marks)


def unreadable(path, error):
    """The error of a damaged file, or of too little memory to read it."""
    reason = first_line(error)
    if reason.startswith("Out of Memory"):
        return DatasetError(f"the data set {path} needs more memory ({reason}): set MEMORY_LIMIT, such as to 2GB.")
    return DatasetError(f"the data set {path} cannot be read as parquet ({reason}): make it again with {DBT_RUN}.")


def ask(con, path, query):
    """The rows that answer the query, in which {dataset} is the data set, wherever it lies."""
    if database.is_uri(path):
        return database.ask(path, query)
    try:
        return con.sql(query.replace("{dataset}", scan(path))).fetchall()
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def read_batches(con, path, query):
    """Yield the rows of the query as record batches; `path` is named when the data set turns out to be damaged."""
    try:
        yield from con.sql(query).to_arrow_reader(BATCH_ROWS)
    except (duckdb.Error, OSError) as error:
        raise unreadable(path, error) from error


def fetch(path, folder):
    """The path that the rows are read from: a table of a database is first copied, in order, into `folder`.

    The copy is read several times while the table may change, and its content hash is what the run
    records: equal rows, equal file, wherever the table lies.
    """
    if not database.is_uri(path):
        return path
    copy = Path(folder) / f"{path.partition('#')[2]}.parquet"
    database.fetch(path, SCHEMA.names, LINE_ORDER, copy)
    return copy


def check_chain(path, inside):
    """Refuse a file that was made from other files than those beside it.

    `inside` is the lineage that the file itself carries. Returns the record beside the file, `inside`
    where there is none.
    """
    try:
        record = read_record(path.parent / STAGE_2, DBT_RUN)
        stage_1 = read_record(path.parent / STAGE_1, "`python create_parquet_dataset.py`")
    except LineageError as error:
        raise DatasetError(str(error)) from None
    if record is None or path.is_dir() or record["outputs"][0]["name"] != path.name:
        return inside  # a folder is of another engine: the record beside it is of an earlier run
    outside = {key: record[key] for key in ("vars", "create_parquet_dataset")}
    if inside != outside:
        raise DatasetError(
            f"the data set {path} is not the file that {STAGE_2} beside it tells of: run {DBT_RUN} again."
        )
    if stage_1 is not None and stage_1 != record["create_parquet_dataset"]:
        made_from = record["create_parquet_dataset"] or {}
        differing = [key for key in ("fraction", "by", "seed") if made_from.get(key) != stage_1[key]]
        what = (
            ", ".join(f"{key} {made_from.get(key)} instead of {stage_1[key]}" for key in differing) or "other content"
        )
        raise DatasetError(
            f"the data set {path} was made from another transactions_train than the one beside it ({what}):"
            f" run {DBT_RUN} again."
        )
    return record


def check_rows(con, path, training_end_date):
    """Refuse rows without a key, and of customers whom only days from training_end_date on let in."""
    keys = (*LINE_ORDER, "quantity")
    ((incomplete,),) = ask(
        con, path, f"select count(*) from {{dataset}} where {' or '.join(f'{key} is null' for key in keys)}"
    )
    if incomplete:
        raise DatasetError(
            f"the data set {path} has {incomplete:,} rows without {', '.join(keys[:-1])} or {keys[-1]}:"
            " each row needs all of them."
        )
    ((late,),) = ask(
        con,
        path,
        "select count(*) from (select customer_id from {dataset} group by customer_id"
        f" having min(t_dat) >= cast({literal(training_end_date.date())} as date)) as late",
    )
    if late:
        raise DatasetError(
            f"the data set {path} does not say how it was filtered, and {late:,} of its customers bought nothing before"
            f" {training_end_date:%Y-%m-%d}, so later days decided who is in it: filter it with that"
            " training_end_date or an earlier one."
        )


def files_on_disk(path):
    """What changes when a file of the data set is replaced or written to: a run must read one and the same."""
    path = Path(path)
    try:
        states = [file.stat() for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    except FileNotFoundError:
        raise DatasetError(f"the data set {path} was removed after the run had begun: make it again.") from None
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]


def check_content(path, lineage):
    """The identity of the data set's files; refuses a content other than the recorded one."""
    path = Path(path)
    if "outputs" not in lineage:
        return [file_identity(part) for part in (sorted(path.rglob("*.parquet")) if path.is_dir() else [path])]
    try:
        check_identity(path, lineage["outputs"][0], DBT_RUN)
    except LineageError as error:
        raise DatasetError(str(error)) from None
    return lineage["outputs"]
