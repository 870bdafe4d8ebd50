"""The one DuckDB of the Python stages: how it is opened, and how values get into its SQL."""

import json
import os
import sys

import duckdb

# Fits a laptop of 8 GB beside a browser. dbt/profiles.yml has the same default.
DEFAULT_MEMORY_LIMIT = "1GB"


class MemoryLimitError(Exception):
    """The memory limit is no size that DuckDB knows."""


def memory_limit():
    """The memory that DuckDB may use before it spills to disk, e.g. '1GB'."""
    return os.environ.get("MEMORY_LIMIT", DEFAULT_MEMORY_LIMIT)


def connect(limit=None, spill_to=None):
    """An in-memory DuckDB that spills beyond `limit` into the folder `spill_to` (default: .tmp here)."""
    con = duckdb.connect(":memory:")
    limit = limit or memory_limit()
    try:
        con.execute(f"set memory_limit = {literal(limit)}")
    except duckdb.Error:
        raise MemoryLimitError(f"the memory limit is {limit!r}: it must be a size such as 2GB.") from None
    if spill_to is not None:
        con.execute(f"set temp_directory = {literal(spill_to)}")
    con.execute(f"set enable_progress_bar = {str(sys.stderr.isatty()).lower()}")
    return con


def first_line(error):
    """The sentence of DuckDB's error, without the advice and the settings that follow it."""
    return str(error).strip().partition("\n")[0]


def literal(value):
    """`value` as a SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def path_literal(path):
    """A file's path as a SQL string that names this file only: no character of it is a glob."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in str(path))
    return literal(escaped)


def scan(path):
    """SQL that reads the parquet file, or the folder of part files in the order of their names.

    A folder named column=value is part of the path and no column.
    """
    return f"read_parquet({path_literal(path)}, hive_partitioning = false)"


def identifier(name):
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def rows_scanned(con):
    """Rows that the table function at the bottom of the last profiled statement handed out."""

    def scanned(node):
        own = node.get("rows_scanned", 0) if "Function" in node.get("extra_info", {}) else 0
        return own + sum(scanned(child) for child in node.get("children", []))

    profile = json.loads(con.get_profiling_information())
    return sum(scanned(node) for node in profile["operator"])
