"""Who and what is in the splits: each user and each item, with its rows in train, valid and test.

Every count of customers and articles, in the summary, the leak check, the vocabulary and the card, is asked here.
"""

import hashlib
from typing import Any

import duckdb
import pyarrow as pa

from prep import duck
from prep.duck import identifier, identifiers, scan
from prep.manifest import content_of
from prep.shop import Shop
from prep.split.splits import DIMENSIONS, Split, units

# Columns of our own beside those of a shop.
PLACE, ROWS = "__place", "__rows"
NAMES = {"user": "customers", "item": "articles"}  # in the summary, whose keys are published


class Members:
    """DuckDB's tables of the splits, as they are written.

    `users` and `items`: id, train, valid, test (numbers of rows). `train_user` and its kind: the dimension of
    the split, with the place of each and its rows.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, shop: Shop, splits: list[Split]) -> None:
        self.con, self.shop, self.splits = con, shop, splits
        self._described: dict[str, list[str]] = {}  # the columns of each of these tables
        for what in DIMENSIONS:
            key = identifier(shop.key(what))
            for split in splits:
                table, source = f"{split.label}_{what}", scan(split.dimension(what))
                self._described[table] = list(duck.types(con, source))
                con.execute(
                    f"create temp table {table} as select * from"
                    f" (select *, row_number() over () - 1 as {PLACE} from {source})"
                    f" join (select {key} as {PLACE}, count(*) as {ROWS} from {split.scan()} group by all)"
                    f" using ({PLACE})"
                )
            each = " union all ".join(
                f"select {key} as id, '{split.label}' as split, {ROWS} from {split.label}_{what}" for split in splits
            )
            counts = ", ".join(
                f"coalesce(sum({ROWS}) filter (split = '{split.label}'), 0)::bigint as {split.label}"
                for split in splits
            )
            con.execute(f"create temp table {what}s as select id, {counts} from ({each}) group by id")

    def lines(self, split: Split) -> str:
        """SQL for the wide rows of the split, in no order."""
        tables = [f"{split.label}_{what}" for what in DIMENSIONS]
        of = {name: table for table in tables for name in self._described[table]}
        cells = ", ".join(f"{of.get(name, 'facts')}.{identifier(name)}" for name in self.shop.names)
        joins = " ".join(
            f"join {table} on facts.{identifier(self.shop.key(what))} = {table}.{PLACE}"
            for what, table in zip(DIMENSIONS, tables, strict=True)
        )
        return f"select {cells} from {split.scan()} as facts {joins}"

    def source(self, split: Split, column: str) -> tuple[str, str]:
        """SQL for the smallest table of the split with this column, and for how many rows one of its rows stands."""
        for table in (f"{split.label}_{what}" for what in DIMENSIONS):
            if column in self._described[table]:
                return table, ROWS
        return split.scan(), "1"

    def counts(self, split: Split, column: str) -> list[tuple[Any, int]]:
        """The values of the column in the order of SQL, empty cells last, and the rows of each."""
        source, rows = self.source(split, column)
        cell = identifier(column)
        return self.con.sql(f"select {cell}, sum({rows})::bigint from {source} group by all order by 1").fetchall()

    def empty_cells(self, split: Split) -> dict[str, int]:
        """The rows of the split without a value, by column."""
        empty = {}
        for name in self.shop.names:
            source, rows = self.source(split, name)
            ((empty[name],),) = self.con.sql(
                f"select coalesce(sum({rows}) filter ({identifier(name)} is null), 0)::bigint from {source}"
            ).fetchall()
        return empty

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows that answer the query, as dicts."""
        return self.con.sql(query).to_arrow_table().to_pylist()

    def summary(self) -> dict[str, dict[str, Any]]:
        """What each split holds, by label: rows, units, customers, articles, first_day, last_day, fingerprint.

        For valid and test also what train has never seen: new_customers and new_articles, and the rows that
        they are in. The fingerprint is a sha256 of the split's files, which equal rows make equal.
        """
        time = identifier(self.shop.time)
        figures = f"count(*) as rows, {units(self.shop)} as units"
        days = f"min({time})::date as first_day, max({time})::date as last_day"
        summary = {}
        for split in self.splits:
            (facts,) = self.ask(f"select {figures}, {days} from {split.scan()}")
            counts = {"rows": facts["rows"], "units": facts["units"]}
            for what, name in NAMES.items():
                ((counts[name], counts[f"new_{name}"], counts[f"rows_of_new_{name}"]),) = self.con.sql(
                    f"select count(*) filter ({split.label} > 0), count(*) filter ({split.label} > 0 and train = 0),"
                    f" coalesce(sum({split.label}) filter (train = 0), 0)::bigint from {what}s"
                ).fetchall()
                if split.label == "train":  # knows all that it holds
                    del counts[f"new_{name}"], counts[f"rows_of_new_{name}"]
            counts |= {key: facts[key] for key in ("first_day", "last_day")}
            summary[split.label] = counts | {"fingerprint": fingerprint(split)}
        return summary

    def vocabulary(self) -> dict[str, pa.Array]:
        """The ids of train, sorted, exactly as the tables hold them, by the name of their column.

        Dense ids for models: position + 1, 0 for unknown. Nothing of valid and test is in it. From id to
        number and back, with pyarrow alone:

            position = pc.index_in(table["customer_id"], value_set=vocabulary["customer_id"])
            number = pc.add(pc.fill_null(position, -1), 1)
            customer_id = vocabulary["customer_id"].take(pc.subtract(number, 1))
        """
        return {
            key: self.con.sql(f"select id from {what}s where train > 0 order by id")
            .to_arrow_table()["id"]
            .combine_chunks()
            for what, key in (("user", self.shop.user), ("item", self.shop.item))
        }

    def item_metadata(self, items: str | None) -> dict[str, dict[str, Any]]:
        """str(item id) -> dict of its columns, for every item of the tables, in the order of the ids.

        `items` is SQL for the item table; without one the columns are those that the rows have. Nothing of
        a purchase is in it: neither a customer nor a price of the test weeks.
        """
        key = identifier(self.shop.item)
        if items is None:
            columns = identifiers(self.shop.names_of("item"))
            each = " union all ".join(f"select {columns} from ({self.lines(split)})" for split in self.splits)
            items = f"select distinct {columns} from ({each})"
        rows = self.ask(f"select * from ({items}) where {key} in (select id from items) order by {key}")
        return {str(row[self.shop.item]): row for row in rows}


def fingerprint(split: Split) -> str:
    """A sha256 of the split's files: these hold nothing but its rows, and so equal rows make it equal."""
    return hashlib.sha256("".join(str(content_of(file)["sha256"]) for file in split.files).encode()).hexdigest()
