"""Stage 3: DataPrepFlow splits filtered_dataframe.parquet by date into versioned Arrow tables."""

import os
import sys

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.metaflow_config import DATASTORE_SYSROOT_S3

# What a step needs, it imports: Metaflow starts a process for each step and each card, and pyarrow,
# pandas and DuckDB take longer to import than start and end to run.


def refuse_secrets(words: list[str]) -> None:
    """End before Metaflow has stored a data set's URI that holds what may be a secret."""
    from uri import fault, is_uri

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
    TRAINING_END_DATE = Parameter("training_end_date", default="2020-09-08", help="train is every day before this one")
    VALIDATION_END_DATE = Parameter(
        "validation_end_date",
        default="2020-09-15",
        help="valid goes from training_end_date up to the day before this one; test begins on it",
    )
    DATASET = Parameter(
        "dataset",
        default="filtered_dataframe.parquet",
        help="The parquet file that dbt wrote, a folder of part files, or a table: postgresql://host/database#schema.table",
    )

    @step
    def start(self) -> None:
        """Check the parameters and the data set before any work is done."""
        import uri
        from dataset import DatasetError, check_dataset, parse_day
        from engine import MemoryLimitError, memory_limit

        print(f"flow name: {current.flow_name}")
        print(f"run id: {current.run_id}")
        print(f"username: {current.username}")
        print(f"DATASTORE_SYSROOT_S3: {DATASTORE_SYSROOT_S3}")
        if DATASTORE_SYSROOT_S3 is None:
            print("ATTENTION: LOCAL DATASTORE ENABLED")
        if uri.is_uri(self.DATASET) and (sentence := uri.fault(self.DATASET)):
            raise DatasetError(
                f"{sentence} This run has stored the parameter already: remove the run {current.run_id}"
                " (docs/keeping-the-disk-free.md)."
            )
        if not 0 <= self.ROW_SAMPLING <= 100:
            raise DatasetError(
                f"--row_sampling is {self.ROW_SAMPLING}: it must be a percent from 0 to 100; 0 keeps all rows."
            )
        if not 0 <= self.SAMPLING_SEED < 2**63:
            raise DatasetError(f"--sampling_seed is {self.SAMPLING_SEED}: it must be from 0 to {2**63 - 1}.")
        self.training_end_date = parse_day("training_end_date", self.TRAINING_END_DATE)
        self.validation_end_date = parse_day("validation_end_date", self.VALIDATION_END_DATE)
        if self.validation_end_date <= self.training_end_date:
            raise DatasetError(
                f"--validation_end_date {self.VALIDATION_END_DATE} is not after --training_end_date"
                f" {self.TRAINING_END_DATE}: valid would have no day."
            )
        try:
            memory_limit()
        except MemoryLimitError as error:
            raise DatasetError(str(error)) from None
        self.lineage, notices = check_dataset(self.DATASET, self.training_end_date)
        for notice in notices:
            print(f"ATTENTION: {notice}")
        self.next(self.get_dataset)

    # With an id, so that `--with card` may add Metaflow's own beside it.
    @card(type="blank", id="data_set", refresh_interval=10)
    @step
    def get_dataset(self) -> None:
        """Sample if asked, split by date, prove that nothing leaked and store the three tables."""
        import vocabulary
        from card import show_card, show_progress
        from dataset import (
            check_copy,
            checked_files,
            dataset_query,
            read_batches,
            replaced,
            state_on_disk,
            temporary_folder,
        )
        from engine import connect
        from splits import (
            article_metadata,
            check_for_leaks,
            check_splits,
            example_row,
            fail_if_leaking,
            rows_by_split,
            split_by_date,
            split_paths,
            stored_array,
            stored_table,
            summarize,
        )
        from uri import is_uri, shown

        days = self.training_end_date, self.validation_end_date
        everything = self.ROW_SAMPLING in (0, 100)
        with temporary_folder() as folder:
            files, self.lineage["dataset"] = checked_files(self.DATASET, self.lineage, folder)
            state = state_on_disk(files)
            con = connect(spill_to=folder, only=[*files, *split_paths(folder).values()])
            if is_uri(self.DATASET):
                for notice in check_copy(con, self.DATASET, files, self.training_end_date):
                    print(f"ATTENTION: {notice}")
            if not everything:
                print(
                    f"ATTENTION: A SAMPLE: {self.ROW_SAMPLING} percent of the rows are drawn (Bernoulli, seed"
                    f" {self.SAMPLING_SEED}); --row_sampling 0 takes all"
                )
            query = dataset_query(con, files, self.ROW_SAMPLING, self.SAMPLING_SEED)
            print(f"Fetching rows with query: {query}")
            print(f"Example row {example_row(con, self.DATASET, query)}")
            available = rows_by_split(con, self.DATASET, files, *days)
            rows_expected = available["rows"] * (self.ROW_SAMPLING or 100) // 100
            batches = show_progress(read_batches(con, self.DATASET, query), rows_expected)
            paths = split_by_date(batches, rows_expected, *days, folder)
            if state_on_disk(files) != state:
                raise replaced(self.DATASET)
            self.summary = summarize(con, paths)
            for notice in check_splits(self.summary, available, *days, self.ROW_SAMPLING):
                print(notice)
            self.vocabulary = {key: stored_array(ids) for key, ids in vocabulary.fit(con).items()}
            self.item_id_2_meta = article_metadata(con, paths)
            least = self.lineage.get("vars", {}).get("min_interactions", 1) if everything else 0
            item_columns = {column for meta in self.item_id_2_meta.values() for column in meta}
            self.leak_check = check_for_leaks(con, paths, *days, least, item_columns)
            fail_if_leaking(self.leak_check)
            run = {
                "run_id": current.run_id,
                "row_sampling": self.ROW_SAMPLING,
                "sampling_seed": self.SAMPLING_SEED,
                "training_end_date": self.TRAINING_END_DATE,
                "validation_end_date": self.VALIDATION_END_DATE,
                "dataset": shown(self.DATASET),
            }
            show_card(
                con, paths, self.summary, self.leak_check, self.lineage, run, (available["rows"], available["units"])
            )
            con.close()  # its memory, before Metaflow holds the bytes of the tables, pickled and compressed too
            tables = {label: stored_table(path) for label, path in paths.items()}
        self.label_to_dataset = tables
        # The two small ones once more: who reads one of them need not load train.
        self.valid = tables["valid"]
        self.test = tables["test"]
        self.next(self.end)

    @step
    def end(self) -> None:
        """Say what the splits hold, and how to open them."""
        from summary import closing_text, summary_text

        print(summary_text(self.summary, self.leak_check))
        print(closing_text(current.run_id, self.ROW_SAMPLING))


if __name__ == "__main__":
    refuse_secrets(sys.argv[1:])
    DataPrepFlow()
