"""Stage 3 as DataPrepFlow's steps call it: what start checks, and what get_dataset does."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from prep import duck
from prep.errors import PrepError, first_line
from prep.manifest import DATASET, ITEMS
from prep.parquet import write_parquet
from prep.shop import Shop, read_shop
from prep.split.dataset import (
    check_dataset,
    columns_query,
    items_fit,
    look_at,
    open_dataset,
    parse_day,
    temporary_folder,
    unreadable,
)
from prep.split.leaks import check_for_leaks, fail_if_leaking
from prep.split.members import Members
from prep.split.splits import available_rows, check_splits, example_row, make_splits
from prep.split.star import write_splits
from prep.uri import fault, is_uri, shown

Days = tuple[datetime.datetime, datetime.datetime]  # training_end_date, validation_end_date


@dataclass(frozen=True)
class Start:
    """What start has found."""

    shop: Shop
    dataset: str
    days: Days
    lineage: dict[str, Any]


def check_start(run_id: str, parameters: dict[str, Any]) -> Start:
    """Check the parameters, {name: value}, and the data set; prints what is to be said of them."""
    row_sampling, seed, dataset = (parameters[name] for name in ("row_sampling", "sampling_seed", "dataset"))
    if is_uri(dataset) and (sentence := fault(dataset)):
        raise PrepError(
            f"{sentence} This run has stored the parameter already: remove the run {run_id}"
            " (docs/keeping-the-disk-free.md)."
        )
    if not 0 <= row_sampling <= 100:
        raise PrepError(f"--row_sampling is {row_sampling}: it must be a percent from 0 to 100; 0 keeps all rows.")
    if not 0 <= seed < 2**63:
        raise PrepError(f"--sampling_seed is {seed}: it must be from 0 to {2**63 - 1}.")
    shop = read_shop(parameters["project"]) if parameters["project"] else read_shop()
    if parameters["project"] and dataset == DATASET:
        dataset = str(Path(shop.data_dir, DATASET))
        print(f"dataset: {dataset} (of the shop)")
    names = ("training_end_date", "validation_end_date")
    training_end, validation_end = texts = [parameters[name] or getattr(shop, name) for name in names]
    days = parse_day(names[0], training_end), parse_day(names[1], validation_end)
    for name, text in zip(names, texts, strict=True):
        print(f"{name}: {text}{'' if parameters[name] else ' (of the shop)'}")
    if days[1] <= days[0]:
        raise PrepError(
            f"--validation_end_date {validation_end} is not after --training_end_date {training_end}: valid would have"
            " no day."
        )
    duck.memory_limit()
    lineage: dict[str, Any] = {}
    with temporary_folder() as folder:
        if is_uri(dataset):
            look_at(open_dataset(dataset, shop, folder, only_look=True))
        else:
            opened = open_dataset(dataset, shop, folder)
            with opened.unchanged():
                lineage, notices = check_dataset(opened, days[0], folder)
            for notice in notices:
                print(f"ATTENTION: {notice}")
    return Start(shop, dataset, days, lineage)


class Run:
    """One run of get_dataset: the data set is opened, split, and described. `folder` is for temporary files."""

    def __init__(self, shop: Shop, dataset: str, folder: Path, days: Days, row_sampling: int, seed: int) -> None:
        self.shop, self.folder, self.row_sampling, self.seed = shop, folder, row_sampling, seed
        self.everything = row_sampling in (0, 100)
        self.splits = make_splits(*days, folder)
        self.dataset = open_dataset(dataset, shop, folder)

    def open(self, checked: dict[str, Any]) -> None:
        """Take the data set that start has checked, or a table of a database, which is checked here."""
        if is_uri(self.dataset.name):
            self.lineage, notices = check_dataset(self.dataset, self.splits[0].end, self.folder)
            for notice in notices:
                print(f"ATTENTION: {notice}")
        else:
            with self.dataset.unchanged():
                content = self.dataset.content()
            if content != checked["dataset"]:
                raise PrepError(
                    f"the data set {self.dataset.name} is another one than step start has checked: check it again with"
                    " `python data_prep.py resume start`, or begin a new run."
                )
            self.lineage = checked | {"dataset": content}
        self.sample = self.folder / "sample.parquet"
        written = [self.sample, *(file for split in self.splits for file in split.files)]
        self.con = duck.connect(spill_to=self.folder, only=[*self.dataset.files, *self.dataset.items, *written])

    def split(self, progress: Callable[[int], Callable[[int], None]]) -> Members:
        """Write the rows, or a sample of them, into the splits; prints what it takes.

        `progress`, given the number of rows to come, returns what is told of rows that are written.
        """
        try:
            with self.dataset.unchanged():
                rows, written = self.write(progress)
        except duckdb.Error as error:
            raise unreadable(self.dataset, error) from error
        if written != rows:
            raise PrepError(f"{rows:,} rows were read and {written:,} written to the splits: rows would be lost.")
        return Members(self.con, self.shop, self.splits)

    def write(self, progress: Callable[[int], Callable[[int], None]]) -> tuple[int, int]:
        """Write the rows into the splits; returns how many were read and how many written."""
        query = columns_query(self.con, self.dataset.files, self.shop.columns)
        self.available = available_rows(self.con, self.dataset, self.splits)
        rows = self.available["rows"]
        if not self.everything:
            # The seeded Bernoulli sample is the same for any number of threads.
            query += f" using sample {int(self.row_sampling)} percent (bernoulli, {int(self.seed)})"
            print(
                f"ATTENTION: A SAMPLE: {self.row_sampling} percent of the rows are drawn (Bernoulli, seed"
                f" {self.seed}); --row_sampling 0 takes all"
            )
        print(f"Fetching rows with query: {query}")
        if not self.everything:  # drawn once, since the splits read it several times
            rows = write_parquet(self.sample, self.shop.schema, duck.batches(self.con, query))
            query = f"select * from {duck.scan(self.sample)}"
        print(f"Example row {example_row(self.con, self.shop, query)}")
        return rows, write_splits(self.con, query, self.splits, self.shop, progress(rows))

    def describe(self, members: Members) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]]:
        """The artifacts summary, item_id_2_meta and leak_check; PrepError where the split leaks or train is empty."""
        summary = members.summary()
        for notice in check_splits(summary, self.available, self.splits, self.row_sampling):
            print(notice)
        with self.dataset.unchanged():
            metadata = self.item_metadata(members)
        least = self.lineage.get("vars", {}).get("min_interactions", 1) if self.everything else 0
        leak_check = check_for_leaks(members, least, {column for meta in metadata.values() for column in meta})
        fail_if_leaking(leak_check)
        return summary, metadata, leak_check

    def item_metadata(self, members: Members) -> dict[str, dict[str, Any]]:
        """The artifact item_id_2_meta, of the item table where that is of this data set."""
        items = None
        try:
            # A record proves that stage 2 made both together. Else all rows are asked: 25 s for 300 million.
            if self.dataset.items and ("vars" in self.lineage or items_fit(self.con, self.dataset)):
                items = columns_query(self.con, self.dataset.items, self.shop.item_columns)
            elif self.dataset.items:
                print("ATTENTION: the item table beside the data set is of another one, so it is left aside")
            return members.item_metadata(items)
        except duckdb.OperationalError:
            raise
        except (duckdb.Error, UnicodeDecodeError) as error:
            raise PrepError(
                f"the item table {ITEMS} beside the data set {shown(self.dataset.name)} cannot be read"
                f" ({first_line(error)}): make both again with {self.shop.stage_2_command}, or move it."
            ) from error

    def parameters(self) -> dict[str, Any]:
        """What the run was asked for, as the card shows it."""
        training_end, validation_end = (split.end for split in self.splits[:2])
        return {
            "row_sampling": self.row_sampling,
            "sampling_seed": self.seed,
            "training_end_date": f"{training_end:%Y-%m-%d}",
            "validation_end_date": f"{validation_end:%Y-%m-%d}",
            "dataset": shown(self.dataset.name),
        }

    def close(self) -> None:
        self.con.close()
