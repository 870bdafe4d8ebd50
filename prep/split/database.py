"""A data set that is a table of a database, fetched as parquet by the database's ADBC driver.

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

import pyarrow as pa

from prep import uri as uris
from prep.errors import PrepError, first_line
from prep.manifest import ITEMS
from prep.parquet import write_parquet
from prep.shop import Shop

REQUIREMENTS = {"postgresql": "postgres", "snowflake": "warehouses", "bigquery": "warehouses"}
# Of the account, in the environment variables of dbt/profiles.yml.
SNOWFLAKE = {
    "username": "SNOWFLAKE_USER",
    "password": "SNOWFLAKE_PASSWORD",
    "adbc.snowflake.sql.role": "SNOWFLAKE_ROLE",
    "adbc.snowflake.sql.warehouse": "SNOWFLAKE_WAREHOUSE",
}


def connection(driver: Any, uri: str) -> Any:
    """The driver's connection to the database of the URI."""
    parts = urlsplit(uri)
    if parts.scheme == "postgresql":
        return driver.connect(uri.partition("#")[0])
    if parts.scheme == "bigquery":
        options = {"adbc.bigquery.sql.project_id": parts.netloc}
    else:
        options = {"adbc.snowflake.sql.account": parts.netloc, "adbc.snowflake.sql.db": parts.path.strip("/")}
        options |= {option: os.environ[name] for option, name in SNOWFLAKE.items() if os.environ.get(name)}
    return driver.connect(db_kwargs=options | dict(parse_qsl(parts.query)))


@contextlib.contextmanager
def cursor_of(uri: str) -> Iterator[Any]:
    """A cursor on the database of the URI."""
    scheme = urlsplit(uri).scheme
    try:
        driver = importlib.import_module(f"adbc_driver_{scheme}.dbapi")
    except ImportError:
        raise PrepError(
            f"the driver for {uris.shown(uri)} is missing: pip install --requirement"
            f" requirements/{REQUIREMENTS[scheme]}.txt."
        ) from None
    try:
        with connection(driver, uri) as open_connection, open_connection.cursor() as cursor:
            yield cursor
    except driver.Error as error:
        raise PrepError(f"the data set {uris.shown(uri)} cannot be read: {first_line(error)}") from error


def fetch(uri: str, shop: Shop, folder: Path, only_look: bool = False) -> tuple[list[Path], list[Path]]:
    """The tables of the purchases and, where it is beside them, of the items, as parquet files in `folder`.

    The purchases are sorted by the row key, since a table has no order. only_look: one row of each.
    """
    if sentence := uris.fault(uri):
        raise PrepError(sentence)
    table = uri.rpartition("#")[2]
    order = list(shop.grain)
    if uri.startswith("postgresql:"):  # it would sort text by the rules of the database's language
        text = {column.name for column in shop.columns if column.data_type == "varchar"}
        order = [f'{name} collate "C"' if name in text else name for name in order]
    what = "*" if only_look else ", ".join(shop.names)
    end = " limit 1" if only_look else f" order by {', '.join(order)}"
    purchases = copy(uri, f"select {what} from {table}{end}", folder / f"{table}.parquet")
    if not shop.item_columns:
        return [purchases], []
    items = ".".join([*table.split(".")[:-1], "items"])
    query = f"select {', '.join(shop.item_schema.names)} from {items}{' limit 1' if only_look else ''}"
    try:
        return [purchases], [copy(uri, query, folder / ITEMS)]
    except PrepError as error:  # most often there is none
        if not only_look:
            print(f"ATTENTION: item_id_2_meta has the columns that the rows have: no {items} beside them ({error})")
        return [purchases], []


def copy(uri: str, query: str, path: Path) -> Path:
    """Stream the rows of the query into the parquet file."""
    with cursor_of(uri) as cursor:
        cursor.execute(query)
        batches = cursor.fetch_record_batch()
        schema = pa.schema([field.with_name(field.name.lower()) for field in batches.schema])  # a warehouse may shout
        write_parquet(path, schema, (batch.rename_columns(schema.names) for batch in batches))
    return path
