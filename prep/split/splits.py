"""The split by date: train, valid and test, and the rows that go into each."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from prep import duck
from prep.duck import identifier, identifiers, scan
from prep.errors import PrepError
from prep.shop import Shop
from prep.split.dataset import Dataset, day_literal

DIMENSIONS = ("user", "item")


@dataclass(frozen=True)
class Split:
    """The rows with start <= time < end, and the parquet files that hold them as a star.

    facts: the rows in their order; in place of a user or an item stands its row in the dimension of that name.
    user, item: who and what is in the rows, each once, in the order of the ids.
    """

    label: str
    start: datetime.datetime
    end: datetime.datetime
    folder: Path

    @property
    def facts(self) -> Path:
        return self.folder / f"{self.label}.facts.parquet"

    def dimension(self, what: str) -> Path:
        return self.folder / f"{self.label}.{what}.parquet"

    @property
    def files(self) -> list[Path]:
        return [self.facts, *map(self.dimension, DIMENSIONS)]

    def scan(self) -> str:
        """SQL for the facts."""
        return scan(self.facts)

    def holds(self, time: str) -> str:
        """SQL: is this time, a SQL timestamp, of the split?"""
        conditions = []
        if self.start != datetime.datetime.min:
            conditions.append(f"{time} >= {day_literal(self.start)}")
        if self.end != datetime.datetime.max:
            conditions.append(f"{time} < {day_literal(self.end)}")
        return " and ".join(conditions)


def make_splits(
    training_end_date: datetime.datetime, validation_end_date: datetime.datetime, folder: Path
) -> list[Split]:
    """train: time < training_end_date; valid: from it on, before validation_end_date; test: from that on."""
    first, last = datetime.datetime.min, datetime.datetime.max
    bounds = {
        "train": (first, training_end_date),
        "valid": (training_end_date, validation_end_date),
        "test": (validation_end_date, last),
    }
    return [Split(label, start, end, folder) for label, (start, end) in bounds.items()]


def example_row(con: duckdb.DuckDBPyConnection, shop: Shop, query: str) -> dict[str, Any]:
    """One row of the query, without what it says of the user: logs stay."""
    shown = [name for name in shop.names if name not in shop.names_of("user")]
    for batch in duck.batches(con, f"select {identifiers(shown)} from ({query}) limit 1"):
        for row in batch.to_pylist():
            return row
    return {}


def available_rows(con: duckdb.DuckDBPyConnection, dataset: Dataset, splits: list[Split]) -> dict[str, Any]:
    """What the data set has before row sampling: rows, units, first_day, last_day, and the rows of each split."""
    shop = dataset.shop
    time = f"cast({identifier(shop.time)} as timestamp)"
    counts = {
        "rows": "count(*)",
        "units": units(shop),
        "first_day": f"min({time})::date",
        "last_day": f"max({time})::date",
    }
    counts |= {split.label: f"count(*) filter ({split.holds(time)})" for split in splits}
    (row,) = con.sql(f"select {', '.join(counts.values())} from {scan(*dataset.files)}").fetchall()
    return dict(zip(counts, row, strict=True))


def units(shop: Shop) -> str:
    """SQL for the units of all rows: the rows, where the shop has no quantity; kilograms keep their fraction."""
    quantity = shop.with_role("quantity")
    if quantity is None:
        return "count(*)"
    total = f"coalesce(sum({identifier(quantity)}), 0)"
    return f"{total}::bigint" if pa.types.is_integer(shop.schema.field(quantity).type) else f"round({total}, 3)"


def check_splits(
    summary: dict[str, dict[str, Any]], available: dict[str, Any], splits: list[Split], row_sampling: int
) -> list[str]:
    """Refuse a run without a row to train on; returns what is to be said of the splits."""
    rows = {label: split["rows"] for label, split in summary.items()}
    training_end, validation_end = splits[0].end, splits[1].end
    if rows["train"] == 0:
        raise PrepError(
            f"no row to train on before {training_end:%Y-%m-%d}"
            f" (validation_end_date {validation_end:%Y-%m-%d}); the data set has the days"
            f" {available['first_day']} to {available['last_day']}, of which --row_sampling {row_sampling} kept"
            f" {sum(rows.values()):,} rows: take all with --row_sampling 0, or dates within these days."
        )
    notices = [
        f"# {rows['train']:,} events in the training set, {rows['valid']:,} for validation, {rows['test']:,} for test"
    ]
    for label in ("valid", "test"):
        if rows[label] == 0 and available[label] == 0:
            notices.append(
                f"ATTENTION: {label} IS EMPTY: the data set has no row of its days (it ends on"
                f" {available['last_day']}); it is stored without rows"
            )
        elif rows[label] == 0:
            notices.append(
                f"ATTENTION: {label} IS EMPTY: the data set has {available[label]:,} rows of its days, and the sample"
                f" of {row_sampling} percent drew none; take all with --row_sampling 0, or a larger percent"
            )
    return notices
