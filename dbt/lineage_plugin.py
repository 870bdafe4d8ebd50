"""dbt-duckdb plugin: SQL functions with which the parquet materialization keeps the chain of content."""

import functools
import json
import os
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dbt.adapters.duckdb.plugins import BasePlugin

import engine
import lineage

INPUTS = ("articles", "customers", "transactions_train")
STAGE_1_COMMAND = "`python create_parquet_dataset.py`"

_held: list[tuple[int, Path]] = []  # the folder of the command that runs


def memory_limit_error() -> str:
    """What is wrong with MEMORY_LIMIT, in a sentence; '' when nothing is."""
    try:
        engine.memory_limit()
    except engine.MemoryLimitError as error:
        return str(error)
    return ""


def release() -> str:
    """Let other runs into the folder, also those of this process: a program may run many dbt commands."""
    while _held:
        handle, folder = _held.pop()
        lineage.remove_workspace(folder)
        os.close(handle)
    inputs_lineage.cache_clear()
    return ""


@functools.cache
def inputs_lineage(data_dir: str) -> str:
    """Check stage 1's three files against its record, and take hold of the folder.

    Returns the record as JSON text, its `outputs` being the inputs of this stage; 'null' when the
    files have none, as those of another tool.
    """
    folder = Path(data_dir).resolve()
    if not folder.is_dir():
        raise lineage.LineageError(
            f"the folder {folder} is missing: name the one of the three parquet files with --vars 'data_dir: ...',"
            " seen from dbt/."
        )
    for name in INPUTS:
        if not (folder / name).is_file():
            raise lineage.LineageError(
                f"the parquet file {folder / name} is missing: run {STAGE_1_COMMAND} in that folder first."
            )
    result = (folder / lineage.STAGE_2).with_suffix(".parquet")
    if result.is_dir():
        raise lineage.LineageError(
            f"{result} is a folder, as Spark leaves it, where DuckDB would write its file: move or delete it first."
        )
    lineage.check_targets([folder / lineage.STAGE_2])
    _held.append((lineage.hold(folder), folder))
    try:
        record = lineage.read_record(folder / lineage.STAGE_1, lineage.Stage1, STAGE_1_COMMAND)
        for identity in record["outputs"] if record else []:
            lineage.check_identity(folder / identity["name"], identity, STAGE_1_COMMAND)
        lineage.new_workspace(folder)
    except Exception:
        release()
        raise
    return json.dumps(record)


def workspace() -> str:
    """The folder for what is not finished, inside the one that inputs_lineage() holds."""
    return str(_held[-1][1] / lineage.WORKSPACE)


def check_result(path: Path, key: list[str]) -> None:
    """Refuse a file without rows, with a null in the row key, or with a key twice.

    The file is in the order of its key, so equal keys stand side by side.
    """
    with pq.ParquetFile(path, read_dictionary=key) as file:
        if file.metadata.num_rows == 0:
            raise lineage.LineageError(
                "the result has no row, so the one before it stays: take a later training_end_date, a smaller"
                " min_interactions, or let dbt read all rows (no --empty)."
            )
        last = None
        for batch in file.iter_batches(columns=key):
            table = pa.Table.from_batches([batch]).select(key)
            if nulls := [name for name in key if table.column(name).null_count]:
                raise lineage.LineageError(f"the result has rows without {', '.join(nulls)}, parts of the row key.")
            same = None
            for column in (table.column(name).combine_chunks() for name in key):
                cells = column.indices if pa.types.is_dictionary(column.type) else column
                equal = pc.equal(cells[1:], cells[:-1])
                same = equal if same is None else pc.and_(same, equal)
            ends = [table.slice(at, 1).to_pylist()[0] for at in (0, table.num_rows - 1)]
            if ends[0] == last or pc.any(same).as_py():
                raise lineage.LineageError(f"the result has two rows with one {', '.join(key)}, the row key.")
            last = ends[1]


def publish(temporary: str, target: str, record: str, key: str) -> str:
    """Give the finished file its name and write its record (JSON text) beside it; returns the name.

    key: the columns of the row key, as JSON text.
    """
    finished, path = Path(temporary), Path(target)
    check_result(finished, json.loads(key))
    identity = lineage.file_identity(finished) | {"name": path.name}
    lineage.publish({finished: path}, path.parent / lineage.STAGE_2, json.loads(record) | {"outputs": [identity]})
    return str(path)


class Plugin(BasePlugin):
    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        os.chdir(Path(__file__).parent)  # data_dir is seen from here, wherever dbt was started
        if not memory_limit_error():  # else the hook before the first model says so
            conn.execute(f"set memory_limit = {engine.literal(engine.memory_limit())}")
        functions = ((memory_limit_error, 0), (inputs_lineage, 1), (workspace, 0), (release, 0), (publish, 4))
        for function, arguments in functions:
            conn.create_function(function.__name__, function, ["VARCHAR"] * arguments, "VARCHAR", side_effects=True)

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        if sys.stdout.isatty():  # in a log, dbt's own line per model is enough
            cursor.execute("set enable_progress_bar = true")
