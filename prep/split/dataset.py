"""The data set that stage 2 leaves: how it is found and read, and whether it is fit to train on."""

import contextlib
import datetime
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from prep import duck, manifest
from prep.duck import identifier, identifiers, scan
from prep.errors import PrepError, first_line
from prep.manifest import Content, content_of, read_marks, read_record
from prep.shop import Column, Shop
from prep.split import database
from prep.uri import is_uri, shown

# The types that are read into a published one without a change of a value, as DuckDB names them.
TYPES_TAKEN = {
    "bigint": r"U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|DECIMAL\(\d+,0\)",
    "double": r"DOUBLE|FLOAT|U?(TINY|SMALL|BIG|HUGE)?INT|U?INTEGER|DECIMAL\(.*\)",
    "varchar": "VARCHAR",
    "timestamp": "DATE|TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?",
}


@dataclass(frozen=True)
class Dataset:
    """Parquet files, whatever the data set was."""

    name: str  # as the user gave it
    shop: Shop
    files: list[Path]
    items: list[Path]  # the item table; empty where there is none
    states: list[tuple[int, int, int]]  # of all files, when they were opened

    def content(self) -> list[Content]:
        return [content_of(file) for file in (*self.files, *self.items)]

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Refuse files that were replaced or written to since they were opened; told instead of other errors."""
        try:
            yield
        finally:
            if states_of([*self.files, *self.items]) != self.states:
                raise PrepError(f"the data set {shown(self.name)} was replaced while it was read: run the flow again.")

    def path(self) -> Path:
        return Path(self.name)


def open_dataset(name: str, shop: Shop, folder: Path, only_look: bool = False) -> Dataset:
    """The data set `name`: a parquet file, a folder of part files, or a table of a database.

    A table is copied into `folder`, since it may change while it is read; only_look: only its first row.
    """
    if is_uri(name):
        files, items = database.fetch(name, shop, folder, only_look)
    else:
        path, beside = Path(name), Path(name).parent / manifest.ITEMS
        files = files_of(path, shop.stage_2_command)
        items = files_of(beside, shop.stage_2_command) if shop.item_columns and beside.exists() else []
    return Dataset(name, shop, files, items, states_of([*files, *items]))


def states_of(dataset_files: Iterable[Path]) -> list[tuple[int, int, int]]:
    """manifest.states_of, and PrepError where a file is gone."""
    try:
        return manifest.states_of(dataset_files)
    except FileNotFoundError as error:
        raise PrepError(f"the data set {error.filename} was removed after the run had begun: make it again.") from None


def files_of(path: Path, make: str) -> list[Path]:
    """The parquet files of the data set: the file itself, or a folder's part files in the order of their names.

    What begins with a dot or an underscore is no data, as for Spark. Any other file is refused: none
    is left out in silence. `make` is the command that makes it.
    """
    if not path.exists():
        raise PrepError(f"the data set {path.absolute()} is missing: make it with {make}, or name it with --dataset.")
    if not path.is_dir():
        return [path]
    # Below `_temporary` too: there lies what a Spark that was killed had written.
    if any(path.rglob("part-[0-9][0-9][0-9][0-9][0-9]-*")) and not (path / "_SUCCESS").exists():
        raise PrepError(f"the data set {path} has no _SUCCESS, so Spark did not finish it: run dbt again.")
    visible = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]
    for file in visible:
        if file.suffix != ".parquet":
            raise PrepError(f"the folder {path} holds {file.relative_to(path)}, which is no parquet file: move it.")
    if not visible:
        raise PrepError(f"the folder {path} holds no parquet file: make the data set with {make}.")
    return visible


def columns_query(con: duckdb.DuckDBPyConnection, files: list[Path], columns: tuple[Column, ...]) -> str:
    """SQL for the columns of the files, with their published types whatever engine wrote them."""
    types = duck.types(con, scan(*files))
    cells = ", ".join(
        identifier(column.name)
        if types[column.name] == column.data_type.upper()
        else f"cast({identifier(column.name)} as {column.data_type}) as {identifier(column.name)}"
        for column in columns
    )
    return f"select {cells} from {scan(*files)}"


def check_dataset(
    dataset: Dataset, training_end_date: datetime.datetime, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """Refuse a data set that is damaged, empty, of another run, or filtered with later days.

    Returns (lineage, notices). lineage["dataset"] is the content of the files that were checked; what
    else is in it a content hash has proven.
    """
    content = dataset.content()
    con = duck.connect(spill_to=folder, only=[*dataset.files, *dataset.items])
    try:
        # Before the columns are looked at: in a damaged file they are anything.
        inside = [read_marks(file, dataset.shop.stage_2_command) for file in dataset.files]
        for day, _ in inside:
            check_filter(dataset, day, training_end_date)
        lineage = check_chain(dataset, content, inside[0][1])
        notices = check_columns(con, dataset)
        if lineage:
            day = datetime.date.fromisoformat(lineage["vars"]["training_end_date"])
            check_filter(dataset, day, training_end_date)
        else:
            check_rows(con, dataset, training_end_date)
            notices.append(
                f"nothing proves what made {shown(dataset.name)} (no {manifest.STAGE_2} beside it with its content), so"
                f" its rows were checked: every customer bought something before {training_end_date:%Y-%m-%d}"
            )
    except (duckdb.Error, OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise unreadable(dataset, error) from error
    finally:
        con.close()
    return lineage | {"dataset": content}, notices


def look_at(dataset: Dataset) -> None:
    """Refuse a table of a database, by its first row, before all of it is copied."""
    con = duck.connect(only=[*dataset.files, *dataset.items])
    try:
        check_columns(con, dataset)
    finally:
        con.close()


def check_columns(con: duckdb.DuckDBPyConnection, dataset: Dataset) -> list[str]:
    """Refuse an empty data set, and columns that are missing or would change; returns what is to be said of others."""
    name, shop, notices = shown(dataset.name), dataset.shop, []
    types = duck.types(con, scan(*dataset.files))
    if missing := [column for column in shop.names if column not in types]:
        raise PrepError(
            f"the data set {name} lacks the column {', '.join(missing)}: make it again with {shop.stage_2_command}."
        )
    for column in shop.columns:
        found = types[column.name]
        if not re.fullmatch(TYPES_TAKEN[column.data_type], found):
            raise PrepError(
                f"the data set {name} has {found} in its column {column.name}, which must be"
                f" {column.data_type.upper()}: cast the column to {column.data_type} and save it again."
            )
        if found.endswith("TIME ZONE"):
            notices.append(f"{column.name} has a time zone: its days are taken in UTC")
    ((rows,),) = con.sql(f"select count(*) from {scan(*dataset.files)}").fetchall()
    if rows == 0:
        raise PrepError(
            f"the data set {name} has no row: run dbt again with a later training_end_date or a"
            " smaller min_interactions."
        )
    return notices


def items_fit(con: duckdb.DuckDBPyConnection, dataset: Dataset) -> bool:
    """Does the item table, which must be there, describe every item of the rows, once and as they do?"""
    shop = dataset.shop
    types = duck.types(con, scan(*dataset.items))
    if any(not re.fullmatch(TYPES_TAKEN[column.data_type], types.get(column.name, "")) for column in shop.item_columns):
        return False
    shared = identifiers(name for name in shop.names_of("item") if name in shop.item_schema.names)
    rows = columns_query(con, dataset.files, shop.columns)
    items = columns_query(con, dataset.items, shop.item_columns)
    ((strange, twice),) = con.sql(
        f"select (select count(*) from (select distinct {shared} from ({rows}) except select {shared} from ({items}))),"
        f" (select count(*) - count(distinct {identifier(shop.item)}) from ({items}))"
    ).fetchall()
    return strange == 0 and twice == 0


def check_filter(dataset: Dataset, filtered_until: datetime.date | None, training_end_date: datetime.datetime) -> None:
    """Refuse a data set that later days than the run's have decided on; proven or not, that much is believed."""
    if filtered_until and filtered_until > training_end_date.date():
        raise PrepError(
            f"the data set {shown(dataset.name)} was filtered with training_end_date {filtered_until}, later than this"
            f" run's {training_end_date:%Y-%m-%d}, so later days decided who is in it: run dbt again with"
            f" --vars '{{training_end_date: \"{training_end_date:%Y-%m-%d}\"}}'."
        )


def check_chain(dataset: Dataset, content: list[Content], inside: dict[str, Any]) -> dict[str, Any]:
    """What the record beside the file tells of its making, when it tells of this file's content; else {}.

    Refuses a file under the record's name whose content is another, and one that was made from other
    files than those beside it. `inside` is what the file itself says.
    """
    path, shop = dataset.path(), dataset.shop
    if is_uri(dataset.name) or path.is_dir():
        return {}  # of another engine: a record beside it is of an earlier run
    record = read_record(path.parent / manifest.STAGE_2, manifest.Stage2, shop.stage_2_command)
    stage_1 = read_record(path.parent / manifest.STAGE_1, manifest.Stage1, shop.stage_1_command)
    if record is None or record["outputs"][0]["name"] != path.name:
        return {}
    made_with = {key: record[key] for key in ("vars", "create_parquet_dataset")}
    if record["outputs"] != content or inside != made_with:
        raise PrepError(
            f"the data set {path} is not the file that {manifest.STAGE_2} beside it tells of (damaged, or of another"
            f" run): run {shop.stage_2_command} again."
        )
    if stage_1 is not None and stage_1 != record["create_parquet_dataset"]:
        made_from = record["create_parquet_dataset"] or {}
        differing = [key for key in ("fraction", "by", "seed") if made_from.get(key) != stage_1[key]]
        what = (
            ", ".join(f"{key} {made_from.get(key)} instead of {stage_1[key]}" for key in differing) or "other content"
        )
        raise PrepError(
            f"the data set {path} was made from another {shop.purchases.name} than the one beside it ({what}):"
            f" run {shop.stage_2_command} again."
        )
    return record


def check_rows(con: duckdb.DuckDBPyConnection, dataset: Dataset, training_end_date: datetime.datetime) -> None:
    """Refuse rows that the project's own data sets never have, and customers whom only later days let in."""
    shop = dataset.shop
    time = f"cast({identifier(shop.time)} as timestamp)"
    keys = [*shop.grain, *filter(None, [shop.with_role("quantity")])]
    numbers = [column.name for column in shop.columns if column.role in ("price", "amount")]
    conditions = {
        f"without {' or '.join([', '.join(keys[:-1]), keys[-1]])}": (
            " or ".join(f"{identifier(key)} is null" for key in keys),
            "each row needs all of them",
        )
    }
    if next(column.precision for column in shop.columns if column.role == "time") == "day":
        conditions[f"whose {shop.time} has a time of the day"] = (
            f"{time} <> date_trunc('day', {time})",
            f"cut it to the day, such as with date_trunc('day', {shop.time})",
        )
    for number in numbers:
        conditions[f"whose {number} is no finite number"] = (
            f"not isfinite(cast({identifier(number)} as double))",
            "mend or leave out these rows",
        )
    counts = ", ".join(f"count(*) filter ({condition})" for condition, _ in conditions.values())
    (found,) = con.sql(f"select {counts} from {scan(*dataset.files)}").fetchall()
    for rows, (what, (_, cure)) in zip(found, conditions.items(), strict=True):
        if rows:
            raise PrepError(f"the data set {shown(dataset.name)} has {rows:,} rows {what}: {cure}.")
    ((late,),) = con.sql(
        f"select count(*) from (select {identifier(shop.user)} from {scan(*dataset.files)} group by all"
        f" having min({time}) >= {day_literal(training_end_date)}) as late"
    ).fetchall()
    if late:
        raise PrepError(
            f"the data set {shown(dataset.name)} does not say how it was filtered, and {late:,} of its customers bought"
            f" nothing before {training_end_date:%Y-%m-%d}, so later days decided who is in it: filter it with that"
            " training_end_date or an earlier one."
        )


def unreadable(dataset: Dataset, error: Exception) -> PrepError:
    """The error of a damaged file, or of too little memory to read it."""
    name, reason = shown(dataset.name), first_line(error)
    if reason.startswith("Out of Memory"):
        return PrepError(f"the data set {name} needs more memory ({reason}): set MEMORY_LIMIT, such as to 2GB.")
    return PrepError(
        f"the data set {name} cannot be read as parquet ({reason}): make it again with {dataset.shop.stage_2_command}."
    )


def parse_day(name: str, text: str) -> datetime.datetime:
    """The day that the parameter `name` holds, as a datetime at midnight."""
    try:
        day = datetime.datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        day = None
    if day is None or f"{day:%Y-%m-%d}" != text:  # it is shown and compared as it was given
        raise PrepError(f"--{name} is {text!r}: it must be a day such as 2020-09-08.")
    return day


def day_literal(day: datetime.datetime) -> str:
    """A day as a SQL timestamp."""
    return f"timestamp '{day:%Y-%m-%d}'"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder for what DuckDB spills and for the splits before they are artifacts; TMPDIR says where."""
    try:
        with tempfile.TemporaryDirectory(prefix="DataPrepFlow-") as folder:
            yield Path(folder).resolve()
    except OSError as error:
        raise PrepError(
            f"the splits cannot be written to a temporary folder ({error}): set TMPDIR to one with room for them."
        ) from error
    except duckdb.OperationalError as error:
        raise PrepError(
            f"DuckDB gave up on the splits ({first_line(error)}): set MEMORY_LIMIT to more, such as 2GB,"
            " or free some disk."
        ) from error
