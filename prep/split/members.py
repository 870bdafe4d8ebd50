"""Who and what is in the splits: each user and each item, with its rows in train, valid and test.

Every count of customers and articles, in the summary, the leak check, the vocabulary and the card, is asked here.
"""

from typing import Any

import duckdb
import pyarrow as pa

from prep.duck import identifier, identifiers
from prep.manifest import content_of
from prep.shop import Shop
from prep.split.splits import Split, units

NAMES = {"user": "customers", "item": "articles"}  # in the summary, whose keys are published


class Members:
    """DuckDB's tables `users` and `items` of the splits: id, train, valid, test (numbers of rows)."""

    def __init__(self, con: duckdb.DuckDBPyConnection, shop: Shop, splits: list[Split]) -> None:
        self.con, self.shop, self.splits = con, shop, splits
        for what, key in (("user", shop.user), ("item", shop.item)):
            rows = " union all ".join(
                f"select {identifier(key)} as id, '{split.label}' as split, count(*) as n from {split.scan()}"
                " group by all"
                for split in splits
            )
            counts = ", ".join(
                f"coalesce(sum(n) filter (split = '{split.label}'), 0)::bigint as {split.label}" for split in splits
            )
            con.execute(f"create temp table {what}s as select id, {counts} from ({rows}) group by id")

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The rows that answer the query, as dicts."""
        return self.con.sql(query).to_arrow_table().to_pylist()

    def summary(self) -> dict[str, dict[str, Any]]:
        """What each split holds, by label: rows, units, customers, articles, first_day, last_day, fingerprint.

        For valid and test also what train has never seen: new_customers and new_articles, and the rows that
        they are in. The fingerprint is the sha256 of the split's parquet file, which equal rows make equal.
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
            summary[split.label] = counts | {"fingerprint": content_of(split.path)["sha256"]}
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
            each = " union all ".join(f"select {columns} from {split.scan()}" for split in self.splits)
            items = f"select distinct {columns} from ({each})"
        rows = self.ask(f"select * from ({items}) where {key} in (select id from items) order by {key}")
        return {str(row[self.shop.item]): row for row in rows}
