"""A data set that is a table of a database, read as Arrow batches by the database's ADBC driver.

Its name is a URI: postgresql://host:port/database#schema.table, snowflake://account/database#schema.table
or bigquery://project#dataset.table, with more of the driver's own options after a question mark. Who
signs in stands in the environment, as for dbt, since a run keeps its parameters for good.
"""

import contextlib
import importlib
import os
import re
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pyarrow as pa
from metaflow.exception import MetaflowException

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


def is_uri(dataset):
    """Whether the data set is a table of a database, not a path."""
    return "://" in str(dataset)


def options(scheme, host, database):
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
def open_table(uri):
    """A cursor on the database, and the table's name."""
    parts = urlsplit(uri)
    if parts.scheme not in REQUIREMENTS:
        raise DatabaseError(
            f"the data set {uri} is of no known database: it must begin with {', '.join(REQUIREMENTS)}."
        )
    if parts.password or "password" in parts.query:
        raise DatabaseError(
            "the data set's URI holds a password, and a run keeps its parameters for good: change it, and give the"
            " new one in the environment (PGPASSWORD, SNOWFLAKE_PASSWORD)."
        )
    if not re.fullmatch(r"\w+(\.\w+)*", parts.fragment):
        raise DatabaseError(
            f"the data set {uri} names no table: end it with #schema.table, such as #hm.filtered_dataframe."
        )
    try:
        driver = importlib.import_module(f"adbc_driver_{parts.scheme}.dbapi")
    except ImportError:
        raise DatabaseError(
            f"the driver for {uri} is missing: pip install --requirement {REQUIREMENTS[parts.scheme]}."
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
        raise DatabaseError(f"the data set {uri} cannot be read: {first_line(error)}") from error


def ask(uri, query):
    """The rows that answer the query, in which {dataset} is the table; the database does the work."""
    with open_table(uri) as (cursor, table):
        cursor.execute(query.replace("{dataset}", table))
        return cursor.fetchall()


def columns(uri):
    """The table's columns, in lower case."""
    with open_table(uri) as (cursor, table):
        cursor.execute(f"select * from {table} limit 0")
        return [column[0].lower() for column in cursor.description]


def fetch(uri, names, order, path):
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
