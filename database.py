"""A data set that is a table of a database, read as Arrow batches by the database's ADBC driver.

Its name is a URI: postgresql://host:port/database#schema.table, snowflake://account/database#schema.table
or bigquery://project#dataset.table, with more of the driver's own options after a question mark. Who
signs in stands in the environment, as for dbt, since a run keeps its parameters for good.
"""

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pyarrow as pa
from metaflow.exception import MetaflowException

import uri as uris
from engine import first_line
from table_writer import TableWriter

REQUIREMENTS = {
    "postgresql": "requirements-postgres.txt",
    "snowflake": "requirements-warehouses.txt",
    "bigquery": "requirements-warehouses.txt",
}


class DatabaseError(MetaflowException):
    """Why a table cannot be read, in one sentence."""

    headline = "The data set cannot be read"


def options(scheme: str, host: str, database: str) -> dict[str, str]:
    """What the warehouses' drivers want: the same environment variables as dbt/profiles.yml."""
    if scheme == "bigquery":
        return {"adbc.bigquery.sql.project_id": host}
    signing_in = {
        "username": "SNOWFLAKE_USER",
        "password": "SNOWFLAKE_PASSWORD",
        "adbc.snowflake.sql.role": "SNOWFLAKE_ROLE",
        "adbc.snowflake.sql.warehouse": "SNOWFLAKE_WAREHOUSE",
    }
    known = {option: os.environ[name] for option, name in signing_in.items() if os.environ.get(name)}
    return {"adbc.snowflake.sql.account": host, "adbc.snowflake.sql.db": database} | known


@contextlib.contextmanager
def open_table(uri: str) -> Iterator[tuple[Any, str]]:
    """A cursor on the database, and the table's name."""
    if sentence := uris.fault(uri):
        raise DatabaseError(sentence)
    parts = urlsplit(uri)
    try:
        driver = importlib.import_module(f"adbc_driver_{parts.scheme}.dbapi")
    except ImportError:
        raise DatabaseError(
            f"the driver for {uris.shown(uri)} is missing: pip install --requirement {REQUIREMENTS[parts.scheme]}."
        ) from None
    try:
        if parts.scheme == "postgresql":
            connection = driver.connect(uri.partition("#")[0])
        else:
            known = options(parts.scheme, parts.netloc, parts.path.strip("/"))
            connection = driver.connect(db_kwargs=known | dict(parse_qsl(parts.query)))
        with connection, connection.cursor() as cursor:
            yield cursor, parts.fragment
    except (driver.Error, duckdb.Error) as error:
        raise DatabaseError(f"the data set {uris.shown(uri)} cannot be read: {first_line(error)}") from error


def ask(uri: str, query: str) -> list[tuple]:
    """The rows that answer the query, in which {dataset} is the table; the database does the work."""
    with open_table(uri) as (cursor, table):
        cursor.execute(query.replace("{dataset}", table))
        return cursor.fetchall()


def columns(uri: str) -> list[str]:
    """The table's columns, in lower case."""
    with open_table(uri) as (cursor, table):
        cursor.execute(f"select * from {table} limit 0")
        return [column[0].lower() for column in cursor.description]


def fetch(uri: str, names: list[str], order: tuple[str, ...], path: Path) -> None:
    """Stream the columns `names` of the table, sorted by `order`, into the parquet file `path`."""
    if uri.startswith("postgresql:"):  # it would sort text by the rules of the database's language
        order = [f'{key} collate "C"' if key == "customer_id" else key for key in order]
    with open_table(uri) as (cursor, table):
        cursor.execute(f"select {', '.join(names)} from {table} order by {', '.join(order)}")
        batches = cursor.fetch_record_batch()
        schema = pa.schema([field.with_name(field.name.lower()) for field in batches.schema])  # a warehouse may shout
        with TableWriter(path, schema) as writer:
            for batch in batches:
                writer.write(batch.rename_columns(schema.names))
