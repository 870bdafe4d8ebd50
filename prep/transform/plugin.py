"""dbt-duckdb's plugin: it finds the tables of stage 1, writes the files of stage 2, and publishes them together.

dbt calls configure_connection() before anything runs, and store() from the materialization `parquet`.
"""

import atexit
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from dbt.adapters.base.relation import BaseRelation
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt.adapters.duckdb.utils import TargetConfig
from dbt.adapters.events.logging import AdapterLogger
from dbt.flags import get_flags
from dbt_common.exceptions import DbtRuntimeError

from prep import duck, lock, manifest
from prep.errors import PrepError
from prep.parquet import OutOfOrderError, in_order, with_unique_key, write_parquet
from prep.shop import Shop, read_shop, read_yaml

PLACE = "__place"  # of a row, the last column of a query whose rows come in no order
SLICE_ROWS = 4_000_000  # few enough that what a join looks up for them fits into memory
KEPT = "kept_lines"  # the model whose rows are sliced
COUNTED = ("purchase_lines", "histories")  # the models that say whom the filter leaves out
WRITING = ("run", "build")  # the commands of dbt that make the files

_running: list[contextlib.ExitStack] = []  # what the command that runs holds; a program may run many


@atexit.register
def release() -> None:
    """Let others into the folder."""
    while _running:
        _running.pop().close()


class Plugin(BasePlugin):
    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Take hold of the data folder, check stage 1's files, and let the sources be found in the schema raw."""
        flags = get_flags()
        release()
        if flags.WHICH not in (*WRITING, "show"):
            return
        try:
            # Most commands of dbt have moved there already, whatever --project-dir says.
            project = Path("." if Path("dbt_project.yml").is_file() else flags.PROJECT_DIR).resolve()
            given = (read_yaml(project / "dbt_project.yml").get("vars") or {}) | (flags.VARS or {})
            self.conn, self.shop = conn, read_shop(project)
            self.folder = (project / str(given["data_dir"])).resolve()
            self.made_with = {
                "training_end_date": str(given["training_end_date"]),
                "min_interactions": given["min_interactions"],
            }
            conn.execute(f"set memory_limit = {duck.literal(duck.memory_limit())}")
            find_tables(self.shop, self.folder)
            if flags.WHICH in WRITING:
                self.begin()
            self.show_tables()
        except (PrepError, OSError) as error:
            raise DbtRuntimeError(str(error)) from None  # dbt shows this one without a traceback

    def begin(self) -> None:
        """Hold the folder until the command ends, and check what lies in it."""
        stack = contextlib.ExitStack()
        self.workspace = stack.enter_context(lock.held(self.folder))
        _running.append(stack)
        self.written: dict[str, Path] = {}
        try:
            self.stage_1 = checked_inputs(self.shop, self.folder)
        except BaseException:
            release()
            raise
        self.conn.execute(f"set temp_directory = {duck.literal(self.workspace / 'spill')}")
        if self.stage_1 is None:
            say(f"{self.folder} has no {manifest.STAGE_1}, so damage to its files would not be seen")

    def show_tables(self) -> None:
        """A view for each source; dbt's own cursors see it."""
        self.conn.execute("create schema if not exists raw")
        for table in self.shop.tables:
            source = duck.scan(self.folder / table.name)
            try:
                types = duck.types(self.conn, source)
                lacking = [column for column in table.columns if column.optional and column.name not in types]
                nulls = [f"null::{column.data_type} as {duck.identifier(column.name)}" for column in lacking]
                query = f"select {', '.join(['*', *nulls])} from {source}"
                self.conn.execute(f"create or replace view raw.{duck.identifier(table.name)} as {query}")
            except duckdb.Error as error:
                raise PrepError(f"{self.folder / table.name} cannot be read as parquet ({error}).") from None
            for column, found in types.items():
                if table.holds == "purchases" and "TIME ZONE" in found:
                    say(f"{column} of {table.name} has a time zone: its days are taken in UTC")

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        if sys.stdout.isatty():  # in a log, dbt's own line per model is enough
            cursor.execute("set enable_progress_bar = true")

    def store(self, target_config: TargetConfig) -> None:
        """Write the rows of a model; the one that holds the purchases comes last, and publishes all.

        Without SQL it is the hook at the end of the command.
        """
        if target_config.location is None or "sql" not in target_config.config:
            return release()
        relation, name = target_config.relation, Path(target_config.location.path).name
        path = self.workspace / name
        cursor = self.conn.cursor()
        try:
            self.write(cursor, target_config.config["sql"], path, relation)
            self.written[name] = path
            if name == manifest.DATASET:
                self.publish(cursor, *(sibling(relation, model) for model in COUNTED))
                path = self.folder / name
            cursor.execute(f"create or replace view {relation.render()} as from {duck.scan(path)}")
        except (PrepError, duckdb.Error, OSError) as error:
            raise DbtRuntimeError(str(error)) from None
        finally:
            cursor.close()

    def write(self, cursor: duckdb.DuckDBPyConnection, sql: str, path: Path, relation: BaseRelation) -> None:
        """Write the query's rows in their order, with what made them; columns and key are checked on the way."""
        what, schema, key = "the result", self.shop.schema, list(self.shop.grain)
        if path.name != manifest.DATASET:
            what, schema, key = path.stem, self.shop.item_schema, [self.shop.item]
        schema = schema.with_metadata(manifest.stage_2_marks(self.made_with, self.stage_1))
        found = cursor.sql(sql).limit(0).to_arrow_table().schema
        placed = PLACE in found.names
        check_contract(found.remove(len(found) - 1) if placed else found, schema, what)

        def write_rows(rows: Iterator[pa.RecordBatch]) -> int:
            return write_parquet(path, schema, with_unique_key(rows, key, what))

        # A join stays as it is written: the ordered rows are read, the others are looked up.
        cursor.execute("set disabled_optimizers = 'join_order,build_side_probe_side'")
        try:
            stream = duck.batches(cursor, sql)
            written = write_rows(in_order(stream, PLACE) if placed else stream)
        except (OutOfOrderError, duckdb.OutOfMemoryException):
            stream.close()
            if not placed:
                raise
            written = write_rows(in_slices(cursor, sql, sibling(relation, KEPT).render()))
        cursor.execute("reset disabled_optimizers")
        if written == 0:
            raise PrepError(
                f"{what} has no row, so the one before it stays: take a later training_end_date, a smaller"
                " min_interactions, or let dbt read all rows (no --empty)."
            )

    def publish(self, cursor: duckdb.DuckDBPyConnection, lines: BaseRelation, histories: BaseRelation) -> None:
        """Give the files their names and write the record beside them."""
        groups = cursor.sql(
            f"select least(lines, {manifest.MOST_LINES}) as lines, count(*) as customers,"
            f" sum(all_lines)::bigint as rows from {histories.render()} group by all order by all"
        )
        record = {
            "vars": self.made_with,
            "create_parquet_dataset": self.stage_1,
            "customers_by_lines": groups.to_arrow_table().to_pylist(),
            "left_out": self.left_out(cursor, lines, histories),
            "outputs": [manifest.content_of(path) for _, path in sorted(self.written.items())],
        }
        finished = {path: self.folder / name for name, path in self.written.items()}
        manifest.publish(finished, self.folder / manifest.STAGE_2, record)

    def left_out(
        self, cursor: duckdb.DuckDBPyConnection, lines: BaseRelation, histories: BaseRelation
    ) -> dict[str, Any] | None:
        """The record's LeftOut; None where the lines have no time under its published name."""
        if self.shop.time not in duck.types(cursor, lines.render()):
            return None
        user, time = next(iter(duck.types(cursor, histories.render()))), duck.identifier(self.shop.time)
        *days, whole = cursor.sql(
            f"select day, count(distinct {duck.identifier(user)}), count(*) from (select cast({time} as date) as day,"
            f" {duck.identifier(user)} from {lines.render()} semi join (from {histories.render()} where lines <"
            f" {int(self.made_with['min_interactions'])}) using ({duck.identifier(user)}) where {time} >="
            f" cast({duck.literal(self.made_with['training_end_date'])} as timestamp))"
            " group by grouping sets ((day), ()) order by day nulls last"
        ).fetchall()
        by_day = [{"day": str(day), "customers": customers, "rows": rows} for day, customers, rows in days]
        return {"customers": whole[1], "rows": whole[2], "by_day": by_day}


def sibling(relation: BaseRelation, model: str) -> BaseRelation:
    """Another model's table, in the schema of `relation`."""
    return relation.incorporate(path={"identifier": model})


def in_slices(cursor: duckdb.DuckDBPyConnection, sql: str, lines: str) -> Iterator[pa.RecordBatch]:
    """Yield the query's rows in the order of the table `lines`, SLICE_ROWS of its rows at a time.

    The macro slice_of reads the two variables. So the join fits into memory, but takes a little longer.
    """
    ((rows,),) = cursor.sql(f"select count(*) from {lines}").fetchall()
    for start in range(0, rows, SLICE_ROWS):
        cursor.execute(f"set variable slice_start = {start}")
        cursor.execute(f"set variable slice_end = {start + SLICE_ROWS}")
        yield from in_order(duck.batches(cursor, sql), PLACE, start, SLICE_ROWS)


def find_tables(shop: Shop, folder: Path) -> None:
    """Refuse a folder that lacks a file of stage 1."""
    if not folder.is_dir():
        raise PrepError(
            f"the folder {folder} is missing: name the one of stage 1's parquet files with --vars 'data_dir: ...',"
            " seen from the dbt project."
        )
    for table in shop.tables:
        if not (folder / table.name).is_file():
            raise PrepError(
                f"the parquet file {folder / table.name} is missing: run {shop.stage_1_command} in that folder first,"
                " or name another one with --vars 'data_dir: ...'."
            )


def checked_inputs(shop: Shop, folder: Path) -> dict[str, Any] | None:
    """The record of stage 1, whose files are the ones that it names; None where they have no record."""
    for name in (manifest.DATASET, manifest.ITEMS):
        if (folder / name).is_dir():
            raise PrepError(
                f"{folder / name} is a folder, as Spark leaves it, where DuckDB would write its file: move or delete it"
                " first."
            )
    manifest.check_targets([folder / manifest.STAGE_2])
    record = manifest.read_record(folder / manifest.STAGE_1, manifest.Stage1, shop.stage_1_command)
    for content in record["outputs"] if record else []:
        manifest.check_content(folder / content["name"], content, shop.stage_1_command)
    return record


def check_contract(found: pa.Schema, wanted: pa.Schema, model: str) -> None:
    """Refuse a query whose columns are not those of the model's YAML."""
    if not found.equals(wanted):
        for number, field in enumerate(wanted):
            have = str(found.field(number)) if number < len(found) else "nothing"
            if have != str(field):
                raise PrepError(f"{model} has {have} where its YAML has {field}: let the model and its YAML agree.")
        raise PrepError(f"{model} has more columns than its YAML: let the model and its YAML agree.")


def say(text: str) -> None:
    AdapterLogger("prep").info(f"ATTENTION: {text}")
