"""dbt-duckdb plugin: SQL functions with which the parquet materialization keeps the chain of content."""

import functools
import json
import os
import sys
from pathlib import Path

from dbt.adapters.duckdb.plugins import BasePlugin

import lineage

INPUTS = ("articles", "customers", "transactions_train")
STAGE_1_COMMAND = "`python create_parquet_dataset.py`"


_held = []  # the folder of the command that runs


def release():
    """Let other runs into the folder, also those of this process: a program may run many dbt commands."""
    while _held:
        os.close(_held.pop())
    inputs_lineage.cache_clear()
    return ""


@functools.cache
def inputs_lineage(data_dir):
    """Check stage 1's three files against its record, and take hold of the folder.

    Returns the record as JSON text, its `outputs` being the inputs of this stage; 'null' when the
    files have none, as those of another tool.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise lineage.LineageError(
            f"the folder {data_dir} is missing: name the one of the three parquet files with --vars."
        )
    for name in INPUTS:
        if not (data_dir / name).is_file():
            raise lineage.LineageError(
                f"the parquet file {data_dir / name} is missing: run {STAGE_1_COMMAND} in that folder first."
            )
    result = (data_dir / lineage.STAGE_2).with_suffix(".parquet")
    if result.is_dir():
        raise lineage.LineageError(
            f"{result} is a folder, as Spark leaves it, where DuckDB would write its file: move or delete it first."
        )
    _held.append(lineage.hold(data_dir))
    try:
        record = lineage.read_record(data_dir / lineage.STAGE_1, STAGE_1_COMMAND)
        for identity in record["outputs"] if record else []:
            lineage.check_identity(data_dir / identity["name"], identity, STAGE_1_COMMAND)
    except Exception:
        release()
        raise
    return json.dumps(record)


def publish(temporary, target, record):
    """Give the finished file its name and write its record (JSON text) beside it; returns the name."""
    target = Path(target)
    try:
        identity = lineage.file_identity(temporary) | {"name": target.name}
        record = json.loads(record) | {"outputs": [identity]}
        lineage.publish({temporary: target}, target.parent / lineage.STAGE_2, record)
    finally:
        lineage.discard(temporary)
    return str(target)


class Plugin(BasePlugin):
    def configure_connection(self, conn):
        conn.create_function("inputs_lineage", inputs_lineage, ["VARCHAR"], "VARCHAR", side_effects=True)
        conn.create_function("release", release, [], "VARCHAR", side_effects=True)
        conn.create_function("publish", publish, ["VARCHAR"] * 3, "VARCHAR", side_effects=True)

    def configure_cursor(self, cursor):
        if sys.stdout.isatty():  # in a log, dbt's own line per model is enough
            cursor.execute("set enable_progress_bar = true")
