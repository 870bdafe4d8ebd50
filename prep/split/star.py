"""A split on the disk, as a star: each user and each item once, and rows that say where these stand.

The wide rows repeat a user's text at each purchase, so that three quarters of them are ids. The names are
those of a star schema: the facts are the rows, the dimensions are the users and the items.
"""

from collections.abc import Callable, Iterator

import duckdb
import pyarrow as pa

from prep import duck
from prep.duck import identifier, identifiers, scan
from prep.parquet import write_parquet
from prep.shop import Shop
from prep.split.splits import DIMENSIONS, Split


def write_splits(
    con: duckdb.DuckDBPyConnection, query: str, splits: list[Split], shop: Shop, progress: Callable[[int], None]
) -> int:
    """Write the query's rows into the splits' files by their day, each in the order it comes; returns how many.

    All files are written, empty or not. `progress` is told of the rows as they are written.
    """
    rows = 0
    for split in splits:
        part = f"select * from ({query}) where {split.holds(identifier(shop.time))}"
        rows += write_star(con, part, split, shop, progress)
    return rows


def write_star(
    con: duckdb.DuckDBPyConnection, query: str, split: Split, shop: Shop, progress: Callable[[int], None]
) -> int:
    """Write the query's rows into the split's files; returns how many."""
    cells = {name: identifier(name) for name in shop.names}
    types = {field.name: field.type for field in shop.schema}
    for what in DIMENSIONS:
        key, *others = write_dimension(con, query, split, shop, what)
        for name in others:
            del cells[name], types[name]
        # An ENUM's numbers are the places, and a cast keeps the order of the rows, which a join does not.
        cells[key] = f"enum_code({identifier(key)}::varchar::{split.label}_{what})::integer"
        types[key] = pa.int32()
    columns = ", ".join(f"{cell} as {identifier(name)}" for name, cell in cells.items())

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in duck.batches(con, f"select {columns} from ({query})"):
            yield batch
            progress(batch.num_rows)

    repeated = [name for name, type_ in types.items() if type_ != pa.int32()]
    rows = write_parquet(split.facts, pa.schema(types.items()), batches(), use_dictionary=repeated)
    for what in DIMENSIONS:
        con.execute(f"drop type {split.label}_{what}")
    return rows


def write_dimension(con: duckdb.DuckDBPyConnection, query: str, split: Split, shop: Shop, what: str) -> list[str]:
    """Write the users or items of the rows in the order of their ids, and make an ENUM of these.

    Where the rows describe an id in two ways, as a foreign data set may, its description stays with the rows.
    Returns the columns that are written, the id first.
    """
    key = identifier(shop.key(what))
    names = [shop.key(what), *(name for name in shop.names_of(what) if name != shop.key(what))]
    con.execute(f"create or replace temp table described as select distinct {identifiers(names)} from ({query})")
    ((twice,),) = con.sql(f"select count(*) > count(distinct {key}) from described").fetchall()
    if twice:
        names = names[:1]
    schema = pa.schema([shop.schema.field(name) for name in names])
    ordered = f"select distinct {identifiers(names)} from described order by {key}"
    write_parquet(split.dimension(what), schema, duck.batches(con, ordered))
    ids = f"select {key}::varchar from {scan(split.dimension(what))}"
    con.execute(f"create type {split.label}_{what} as enum ({ids})")
    con.execute("drop table described")
    return names
