"""The one DuckDB of the three stages: how it is opened, how values get into its SQL, how rows leave it."""

import os
import re
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

from prep.errors import PrepError

# Fits a laptop of 8 GB beside a browser.
DEFAULT_MEMORY_LIMIT = "1GB"
BATCH_ROWS = 122_880


def memory_limit(limit: str | None = None) -> str:
    """The memory that DuckDB may use before it spills to disk, e.g. '1GB'.

    `limit`, else MEMORY_LIMIT of the environment, else DEFAULT_MEMORY_LIMIT.
    """
    if limit is None:
        limit = os.environ.get("MEMORY_LIMIT", DEFAULT_MEMORY_LIMIT)
    size = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*[KMGT]i?B\s*", limit, re.IGNORECASE)
    if size is None or float(size[1]) == 0:
        raise PrepError(f"the memory limit is {limit!r}: it must be a number with its unit, such as 2GB.")
    return limit.strip()


def connect(
    limit: str | None = None, spill_to: Path | None = None, only: Iterable[Path] | None = None
) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB in UTC that spills beyond `limit` into the folder `spill_to`.

    With `only`, it can touch these files and that folder, and nothing else: no other file, no network.
    """
    con = duckdb.connect(":memory:")
    con.execute(f"set memory_limit = {literal(memory_limit(limit))}")
    con.execute("set TimeZone = 'UTC'")
    con.execute("set python_enable_replacements = false")
    con.execute(f"set enable_progress_bar = {str(sys.stderr.isatty()).lower()}")
    # Without a folder DuckDB would spill into .tmp of the working folder, which others may share.
    con.execute(f"set temp_directory = {literal(spill_to or '')}")
    if only is not None:
        # A name with a bracket or a star is asked for as a pattern that matches itself only.
        allowed = [name for path in only for name in (literal(path), path_literal(path))]
        con.execute(f"set allowed_paths = [{', '.join(allowed)}]")
        con.execute("set enable_external_access = false")
        con.execute("set lock_configuration = true")
    return con


def batches(con: duckdb.DuckDBPyConnection, query: str, rows: int = BATCH_ROWS) -> Generator[pa.RecordBatch]:
    """Yield the rows of the query as record batches; whatever fails on the way is a duckdb.Error."""
    try:
        with con.sql(query).to_arrow_reader(rows) as reader:  # its end lets the connection go on
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                yield batch
    except (OSError, pa.ArrowException) as error:  # Arrow's stream knows no other
        kind = duckdb.OutOfMemoryException if "Out of Memory Error" in str(error) else duckdb.Error
        raise kind(str(error)) from error


def literal(value: object) -> str:
    """`value` as a SQL string."""
    return "'" + str(value).replace("'", "''") + "'"


def path_literal(path: str | Path) -> str:
    """A file's path as a SQL string that names this file only: no character of it is a glob."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in str(path))
    return literal(escaped)


def scan(*paths: str | Path) -> str:
    """SQL that reads the parquet files, in this order.

    A folder named column=value is part of the path and no column.
    """
    return f"read_parquet([{', '.join(path_literal(path) for path in paths)}], hive_partitioning = false)"


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def identifiers(names: Iterable[str]) -> str:
    """The names as a SQL list."""
    return ", ".join(identifier(name) for name in names)


def types(con: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    """{column: its type in DuckDB} of what the SQL `source` reads."""
    return dict(con.sql(f"select column_name, column_type from (describe from {source})").fetchall())
