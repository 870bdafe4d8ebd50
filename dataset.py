"""The data set that stage 2 leaves: its columns, how it is read, and whether it is fit to train on."""

import contextlib
import datetime
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from metaflow.exception import MetaflowException

import database
import uri as uris
from engine import connect, first_line, identifier, scan
from lineage import (
    STAGE_1,
    STAGE_2,
    Inside,
    LineageError,
    Stage1,
    Stage2,
    Typed,
    Vars,
    file_identity,
    parse,
    read_record,
)
from uri import shown

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
ARTICLE_COLUMNS, CUSTOMER_COLUMNS = SCHEMA.names[:13], SCHEMA.names[13:20]
SQL_TYPES = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.timestamp("us"): "TIMESTAMP",
}
# The types that are read into them without a change of a value, as DuckDB names them.
TYPES_TAKEN = {
    pa.int64(): r"U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|DECIMAL\(\d+,0\)",
    pa.float64(): r"DOUBLE|FLOAT|U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|DECIMAL\(.*\)",
    pa.string(): "VARCHAR",
    pa.timestamp("us"): "DATE|TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?",
}
LINE_ORDER = ("t_dat", "customer_id", "article_id", "sales_channel_id", "price")  # of the rows
BATCH_ROWS = 100_000
DBT_RUN = "`cd dbt && dbt run`"


class DatasetError(MetaflowException):
    """Why the data set cannot be prepared, in one sentence: Metaflow prints it without a traceback."""

    headline = "The data set cannot be prepared"


def parse_day(name: str, text: str) -> datetime.datetime:
    """The day that the parameter `name` holds, as a datetime at midnight."""
    try:
        day = datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        day = None
    if day is None or f"{day:%Y-%m-%d}" != text:  # it is shown and compared as it was given
        raise DatasetError(f"--{name} is {text!r}: it must be a day such as 2020-09-08.")
    return day


def files_of(path: str | Path) -> list[Path]:
    """The parquet files of the data set: the file itself, or a folder's part files in the order of their names.

    What begins with a dot or an underscore is no data, as for Spark. Any other file is refused: none
    is left out in silence.
    """
    path = Path(path)
    if not path.exists():
        raise DatasetError(
            f"the data set {path.absolute()} is missing: make it with {DBT_RUN}, or name it with --dataset."
        )
    if not path.is_dir():
        return [path]
    # Below `_temporary` too: there lies what a Spark that was killed had written.
    if any(path.rglob("part-[0-9][0-9][0-9][0-9][0-9]-*")) and not (path / "_SUCCESS").exists():
        raise DatasetError(f"the data set {path} has no _SUCCESS, so Spark did not finish it: run dbt again.")
    visible = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]
    for file in visible:
        if file.suffix != ".parquet":
            raise DatasetError(f"the folder {path} holds {file.relative_to(path)}, which is no parquet file: move it.")
    if not visible:
        raise DatasetError(f"the folder {path} holds no parquet file: make the data set with {DBT_RUN}.")
    return visible


def dataset_query(
    con: duckdb.DuckDBPyConnection, files: list[Path], row_sampling: int = 0, sampling_seed: int = 0
) -> str:
    """SQL for the rows of the run, with the types of SCHEMA whatever engine wrote them.

    The seeded Bernoulli sample is the same for any number of threads.
    """
    types = column_types(con, files)
    columns = ", ".join(
        identifier(field.name)
        if types[field.name] == SQL_TYPES[field.type]
        else f"cast({identifier(field.name)} as {SQL_TYPES[field.type]}) as {identifier(field.name)}"
        for field in SCHEMA
    )
    sample = f" using sample {int(row_sampling)} percent (bernoulli, {int(sampling_seed)})" if row_sampling else ""
    return f"select {columns} from {scan(*files)}{sample}"


def column_types(con: duckdb.DuckDBPyConnection, files: list[Path]) -> dict[str, str]:
    """{column: its type in DuckDB} of the parquet files."""
    return dict(con.sql(f"select column_name, column_type from (describe from {scan(*files)})").fetchall())


def check_dataset(path: str, training_end_date: datetime.datetime) -> tuple[dict[str, Any], list[str]]:
    """Refuse a data set that is missing, damaged, empty, of another run, or filtered with later days.

    Returns (lineage, notices). lineage["dataset"] is the content of the files that were checked; what
    else is in it a content hash has proven. A table of a database is checked in get_dataset, on the
    copy that the run reads.
    """
    if uris.is_uri(path):
        check_columns(path, database.columns(path))
        ((rows,),) = database.ask(path, "select count(*) from {dataset}")
        check_not_empty(path, rows)
        return {}, []
    files = files_of(path)
    identities = [file_identity(file) for file in files]
    with temporary_folder() as folder:
        con = connect(spill_to=folder, only=files)
        try:
            notices, lineage = check_files(con, path, files, identities, training_end_date)
        except (duckdb.Error, OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise unreadable(path, error) from error
        finally:
            con.close()
    return lineage | {"dataset": identities}, notices


def check_files(
    con: duckdb.DuckDBPyConnection,
    path: str,
    files: list[Path],
    identities: list[dict[str, Any]],
    training_end_date: datetime.datetime,
) -> tuple[list[str], dict[str, Any]]:
    """The checks of check_dataset() on the files: (notices, what a content hash proves of their making)."""
    # Before the columns are looked at: in a damaged file they are anything.
    try:
        inside = [read_marks(file) for file in files]
        for day, _ in inside:
            check_filter(path, day, training_end_date)
        lineage = check_chain(Path(path), identities, inside[0][1])
    except LineageError as error:
        raise DatasetError(str(error)) from None
    types = column_types(con, files)
    check_columns(path, list(types))
    notices = check_types(path, types)
    ((rows,),) = con.sql(f"select count(*) from {scan(*files)}").fetchall()
    check_not_empty(path, rows)
    if lineage:
        check_filter(path, datetime.date.fromisoformat(lineage["vars"]["training_end_date"]), training_end_date)
    else:
        check_rows(con, path, files, training_end_date)
        notices.append(
            f"nothing proves what made {shown(path)} (no {STAGE_2} beside it with its content), so its rows were"
            f" checked: every customer bought something before {training_end_date:%Y-%m-%d}"
        )
    return notices, lineage


def check_columns(path: str, columns: list[str]) -> None:
    missing = [name for name in SCHEMA.names if name not in columns]
    if missing:
        raise DatasetError(
            f"the data set {shown(path)} lacks the column {', '.join(missing)}: make it again with {DBT_RUN}."
        )


def check_types(path: str, types: dict[str, str]) -> list[str]:
    """Refuse columns whose values would change as they are read; returns what is to be said of the others."""
    notices = []
    for field in SCHEMA:
        found = types[field.name]
        if not re.fullmatch(TYPES_TAKEN[field.type], found):
            raise DatasetError(
                f"the data set {shown(path)} has {found} in its column {field.name}, which must be"
                f" {SQL_TYPES[field.type]}: cast the column to {field.type} and save it again."
            )
        if found.endswith("TIME ZONE"):
            notices.append(f"{field.name} has a time zone: its days are taken in UTC")
    return notices


def check_not_empty(path: str, rows: int) -> None:
    if rows == 0:
        raise DatasetError(
            f"the data set {shown(path)} has no row: run dbt again with a later training_end_date or a"
            " smaller min_interactions."
        )


def read_marks(file: Path) -> tuple[datetime.date | None, dict[str, Any]]:
    """What a parquet file says of its own making: (the day of its filter, its lineage), None and {} where nothing is.

    Anybody may have written it, so it is parsed here and nowhere else: LineageError names the file and the key.
    """
    marks = pq.read_metadata(file).metadata or {}
    texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in marks.items()}
    day, lineage = None, {}
    if "training_end_date" in texts:
        quoted = json.dumps({"training_end_date": texts["training_end_date"], "min_interactions": 1})
        day = parsed(Vars, quoted, f"the metadata of {file}")["training_end_date"]
        day = datetime.date.fromisoformat(day)
    if "lineage" in texts:
        lineage = parsed(Inside, texts["lineage"], f"the metadata of {file}, lineage")
        day = max(day or datetime.date.min, datetime.date.fromisoformat(lineage["vars"]["training_end_date"]))
    return day, lineage


def parsed(model: type[Typed], text: str, where: str) -> dict[str, Any]:
    """parse(), with what to do in its sentence."""
    try:
        return parse(model, text, where)
    except LineageError as error:
        raise LineageError(f"{error}: make the file again with {DBT_RUN}, or save it without that metadata.") from None


def check_filter(path: str, filtered_until: datetime.date | None, training_end_date: datetime.datetime) -> None:
    """Refuse a data set that later days than the run's have decided on; proven or not, that much is believed."""
    if filtered_until and filtered_until > training_end_date.date():
        raise DatasetError(
            f"the data set {shown(path)} was filtered with training_end_date {filtered_until}, later than this run's"
            f" {training_end_date:%Y-%m-%d}, so later days decided who is in it: run dbt again with"
            f" --vars '{{training_end_date: \"{training_end_date:%Y-%m-%d}\"}}'."
        )


def unreadable(path: str | Path, error: Exception) -> DatasetError:
    """The error of a damaged file, or of too little memory to read it."""
    reason = first_line(error)
    if reason.startswith("Out of Memory"):
        return DatasetError(
            f"the data set {shown(path)} needs more memory ({reason}): set MEMORY_LIMIT, such as to 2GB."
        )
    return DatasetError(
        f"the data set {shown(path)} cannot be read as parquet ({reason}): make it again with {DBT_RUN}."
    )


def ask(con: duckdb.DuckDBPyConnection, path: str, query: str) -> list[tuple]:
    """The rows that answer the query; `path` is named when the data set turns out to be damaged."""
    try:
        return con.sql(query).fetchall()
    except duckdb.Error as error:
        raise unreadable(path, error) from error


def read_batches(con: duckdb.DuckDBPyConnection, path: str, query: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the query as record batches; `path` is named when the data set turns out to be damaged."""
    try:
        yield from con.sql(query).to_arrow_reader(BATCH_ROWS)
    except (duckdb.Error, OSError) as error:
        raise unreadable(path, error) from error


def checked_files(path: str, lineage: dict[str, Any], folder: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """The files that the rows are read from, and their content, which is what start has checked.

    A table of a database is first copied, in order, into `folder`: it may change while it is read.
    """
    if uris.is_uri(path):
        copy = folder / f"{path.rpartition('#')[2]}.parquet"
        database.fetch(path, SCHEMA.names, LINE_ORDER, copy)
        return [copy], [file_identity(copy)]
    files = files_of(path)
    identities = [file_identity(file) for file in files]
    if identities != lineage.get("dataset"):
        raise DatasetError(
            f"the data set {path} is another one than step start has checked: check it again with"
            " `python data_prep.py resume start`, or begin a new run."
        )
    return files, identities


def check_copy(
    con: duckdb.DuckDBPyConnection, path: str, files: list[Path], training_end_date: datetime.datetime
) -> list[str]:
    """What check_dataset() asks of a file, asked of the copy of a database's table; returns what is to be said."""
    try:
        types = column_types(con, files)
        check_columns(path, list(types))
        notices = check_types(path, types)
        check_not_empty(path, pq.read_metadata(files[0]).num_rows)
        check_rows(con, path, files, training_end_date)
    except duckdb.Error as error:
        raise unreadable(path, error) from error
    return [
        *notices,
        f"{shown(path)} does not say what made it, so its rows were checked:"
        f" every customer bought something before {training_end_date:%Y-%m-%d}",
    ]


def check_chain(path: Path, identities: list[dict[str, Any]], inside: dict[str, Any]) -> dict[str, Any]:
    """What the record beside the file tells of its making, when it tells of this file's content; else {}.

    Refuses a file under the record's name whose content is another, and one that was made from other
    files than those beside it. `inside` is what the file itself says.
    """
    record = read_record(path.parent / STAGE_2, Stage2, DBT_RUN)
    stage_1 = read_record(path.parent / STAGE_1, Stage1, "`python create_parquet_dataset.py`")
    if record is None or path.is_dir() or record["outputs"][0]["name"] != path.name:
        return {}  # a folder is of another engine: the record beside it is of an earlier run
    made_with = {key: record[key] for key in ("vars", "create_parquet_dataset")}
    if record["outputs"] != identities or inside != made_with:
        raise LineageError(
            f"the data set {path} is not the file that {STAGE_2} beside it tells of (damaged, or of another run):"
            f" run {DBT_RUN} again."
        )
    if stage_1 is not None and stage_1 != record["create_parquet_dataset"]:
        made_from = record["create_parquet_dataset"] or {}
        differing = [key for key in ("fraction", "by", "seed") if made_from.get(key) != stage_1[key]]
        what = (
            ", ".join(f"{key} {made_from.get(key)} instead of {stage_1[key]}" for key in differing) or "other content"
        )
        raise LineageError(
            f"the data set {path} was made from another transactions_train than the one beside it ({what}):"
            f" run {DBT_RUN} again."
        )
    return record


def check_rows(
    con: duckdb.DuckDBPyConnection, path: str, files: list[Path], training_end_date: datetime.datetime
) -> None:
    """Refuse rows that the project's own data sets never have, and customers whom only later days let in."""
    keys = (*LINE_ORDER, "quantity")
    ((incomplete, not_midnight, infinite),) = con.sql(
        f"select count(*) filter ({' or '.join(f'{key} is null' for key in keys)}),"
        " count(*) filter (cast(t_dat as timestamp) <> date_trunc('day', cast(t_dat as timestamp))),"
        f" count(*) filter (not isfinite(cast(price as double))) from {scan(*files)}"
    ).fetchall()
    for rows, what, cure in (
        (incomplete, f"without {', '.join(keys[:-1])} or {keys[-1]}", "each row needs all of them"),
        (not_midnight, "whose t_dat has a time of the day", "cut it to the day, such as with date_trunc('day', t_dat)"),
        (infinite, "whose price is no finite number", "mend or leave out these rows"),
    ):
        if rows:
            raise DatasetError(f"the data set {shown(path)} has {rows:,} rows {what}: {cure}.")
    ((late,),) = con.sql(
        f"select count(*) from (select customer_id from {scan(*files)} group by customer_id"
        f" having min(cast(t_dat as timestamp)) >= {day_literal(training_end_date)}) as late"
    ).fetchall()
    if late:
        raise DatasetError(
            f"the data set {shown(path)} does not say how it was filtered, and {late:,} of its customers bought nothing"
            f" before {training_end_date:%Y-%m-%d}, so later days decided who is in it: filter it with that"
            " training_end_date or an earlier one."
        )


def day_literal(day: datetime.datetime) -> str:
    """A day as a SQL timestamp."""
    return f"timestamp '{day:%Y-%m-%d}'"


def state_on_disk(files: list[Path]) -> list[tuple[int, int, int]]:
    """What changes when a file is replaced or written to: a run must read one and the same."""
    try:
        states = [file.stat() for file in files]
    except FileNotFoundError as error:
        raise DatasetError(
            f"the data set {error.filename} was removed after the run had begun: make it again."
        ) from None
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in states]


def replaced(path: str) -> DatasetError:
    return DatasetError(f"the data set {shown(path)} was replaced while it was read: run the flow again.")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder for what DuckDB spills and for the splits before they are artifacts; TMPDIR says where."""
    try:
        with tempfile.TemporaryDirectory(prefix="DataPrepFlow-") as folder:
            yield Path(folder).resolve()
    except OSError as error:
        raise DatasetError(
            f"the splits cannot be written to a temporary folder ({error}): set TMPDIR to one with room for them."
        ) from error
    except duckdb.OperationalError as error:
        raise DatasetError(
            f"DuckDB gave up on the splits ({first_line(error)}): set MEMORY_LIMIT to more, such as 2GB,"
            " or free some disk."
        ) from error
