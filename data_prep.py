"""Stage 3: DataPrepFlow splits filtered_dataframe.parquet by date into versioned Arrow tables."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.exception import MetaflowException
from metaflow.metaflow_config import DATASTORE_SYSROOT_S3

from prep.errors import PrepError
from prep.uri import fault, is_uri

# What else a step needs, it imports: Metaflow starts a process for each step and each card, and pyarrow
# and DuckDB take longer to import than start and end to run.


class CannotPrepareError(MetaflowException):
    """A PrepError as Metaflow prints it without a traceback."""

    headline = "The data set cannot be prepared"


def told(function: Callable[[Any], None]) -> Callable[[Any], None]:
    """The step, whose PrepError Metaflow shows as one sentence."""

    @functools.wraps(function)
    def wrapper(self: Any) -> None:
        try:
            function(self)
        except PrepError as error:
            raise CannotPrepareError(str(error)) from error

    return wrapper


def refuse_secrets(words: list[str]) -> None:
    """End before Metaflow has stored a data set's URI that holds what may be a secret."""
    for word in [*words, os.environ.get("METAFLOW_RUN_DATASET", "")]:
        value = word.partition("=")[2] if word.startswith("-") else word
        if is_uri(value) and (sentence := fault(value)):
            sys.exit(f"data_prep.py: error: {sentence}")


class DataPrepFlow(FlowSpec):
    """
    Split the purchases by date into train, valid and test, as versioned Arrow tables.

    1. start: check the parameters and the data set
    2. get_dataset: sample if asked, split by date, store the tables
    3. end: say how to open them
    """

    ROW_SAMPLING = Parameter(
        "row_sampling",
        type=int,
        default=1,
        help="Percent of the rows to keep (Bernoulli), a whole number up to 100; 0 or 100: all",
    )
    SAMPLING_SEED = Parameter("sampling_seed", type=int, default=0, help="Same seed, same rows; 0 to 2^63 - 1")
    TRAINING_END_DATE = Parameter(
        "training_end_date",
        default="",
        help="train is every day before this one; empty: the shop's own date, in its dbt_project.yml",
    )
    VALIDATION_END_DATE = Parameter(
        "validation_end_date",
        default="",
        help="valid goes from training_end_date up to the day before this one, test begins on it; empty: the shop's",
    )
    DATASET = Parameter(
        "dataset",
        default="filtered_dataframe.parquet",
        help="The parquet file that dbt wrote, a folder of part files, or a table: postgresql://host/database#schema.table",
    )
    PROJECT = Parameter(
        "project",
        default="",
        help="The shop's dbt project; filtered_dataframe.parquet then is the one in its data_dir; empty: H&M's",
    )

    @step
    @told
    def start(self) -> None:
        """Check the parameters and the data set before any work is done."""
        from prep.split.run import check_start

        print(f"flow name: {current.flow_name}")
        print(f"run id: {current.run_id}")
        print(f"username: {current.username}")
        print(f"DATASTORE_SYSROOT_S3: {DATASTORE_SYSROOT_S3}")
        if DATASTORE_SYSROOT_S3 is None:
            print("ATTENTION: LOCAL DATASTORE ENABLED")
        names = [name for name in dir(self) if name.isupper() and not name.startswith("_")]
        checked = check_start(current.run_id, {name.lower(): getattr(self, name) for name in names})
        # The shop goes along as plain data: a YAML that is edited meanwhile changes nothing.
        self.shop = checked.shop.model_dump()
        self.dataset_name = checked.dataset
        self.training_end_date, self.validation_end_date = checked.days
        self.lineage = checked.lineage
        self.next(self.get_dataset)

    # With an id, so that `--with card` may add Metaflow's own beside it.
    @card(type="blank", id="data_set", refresh_interval=10)
    @step
    @told
    def get_dataset(self) -> None:
        """Sample if asked, split by date, prove that nothing leaked and store the three tables."""
        from prep.report.card import Card, show_progress
        from prep.shop import Shop
        from prep.split.artifacts import stored_array, stored_table
        from prep.split.dataset import temporary_folder
        from prep.split.run import Run

        with temporary_folder() as folder:
            days = self.training_end_date, self.validation_end_date
            run = Run(Shop(**self.shop), self.dataset_name, folder, days, self.ROW_SAMPLING, self.SAMPLING_SEED)
            run.open(self.lineage)
            members = run.split(show_progress)
            self.summary, self.item_id_2_meta, self.leak_check = run.describe(members)
            self.vocabulary = {key: stored_array(ids) for key, ids in members.vocabulary().items()}
            self.lineage = run.lineage
            given = run.parameters() | {"run_id": current.run_id}
            Card(members, self.summary, self.leak_check, self.lineage, given, run.available).show()
            run.close()  # its memory, before Metaflow holds the bytes of the tables, pickled and compressed too
            tables = {split.label: stored_table(split, run.shop) for split in run.splits}
        self.label_to_dataset = tables
        # The two small ones once more: who reads one of them need not load train.
        self.valid = tables["valid"]
        self.test = tables["test"]
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what the splits hold, and how to open them."""
        from prep.report.summary import closing_text, summary_text

        print(summary_text(self.summary, self.leak_check))
        print(closing_text(current.run_id, self.ROW_SAMPLING))


if __name__ == "__main__":
    refuse_secrets(sys.argv[1:])
    DataPrepFlow()
