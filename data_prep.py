"""Stage 3: DataPrepFlow splits filtered_dataframe.parquet by date into versioned Arrow tables."""

from metaflow import FlowSpec, Parameter, card, current, step
from metaflow.metaflow_config import DATASTORE_SYSROOT_S3

# What a step needs, it imports: Metaflow starts a process for each step and each card, and pyarrow,
# pandas and DuckDB take longer to import than start and end to run.


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
    SAMPLING_SEED = Parameter("sampling_seed", type=int, default=0, help="Same seed, same rows; 0 or more")
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
    def start(self):
        """Check the parameters and the data set before any work is done."""
        from dataset import DatasetError, check_dataset, parse_day
        from engine import MemoryLimitError, connect

        print(f"flow name: {current.flow_name}")
        print(f"run id: {current.run_id}")
        print(f"username: {current.username}")
        print(f"DATASTORE_SYSROOT_S3: {DATASTORE_SYSROOT_S3}")
        if DATASTORE_SYSROOT_S3 is None:
            print("ATTENTION: LOCAL DATASTORE ENABLED")
        if not 0 <= self.ROW_SAMPLING <= 100:
            raise DatasetError(
                f"--row_sampling is {self.ROW_SAMPLING}: it must be a percent from 0 to 100; 0 keeps all rows."
            )
        if self.SAMPLING_SEED < 0:
            raise DatasetError(f"--sampling_seed is {self.SAMPLING_SEED}: it must be 0 or more.")
        self.training_end_date = parse_day("training_end_date", self.TRAINING_END_DATE)
        self.validation_end_date = parse_day("validation_end_date", self.VALIDATION_END_DATE)
        if self.validation_end_date <= self.training_end_date:
            raise DatasetError(
                f"--validation_end_date {self.VALIDATION_END_DATE} is not after --training_end_date"
                f" {self.TRAINING_END_DATE}: valid would have no day."
            )
        try:
            con = connect()
        except MemoryLimitError as error:
            raise DatasetError(str(error)) from None
        self.lineage, notice = check_dataset(con, self.DATASET, self.training_end_date)
        if notice:
            print(f"ATTENTION: {notice}")
        self.next(self.get_dataset)

    @card(type="blank", refresh_interval=10)
    @step
    def get_dataset(self):
        """Sample if asked, split by date, prove that nothing leaked and store the three tables."""
        import vocabulary
        from card import show_card, show_progress
        from dataset import DatasetError, ask, check_content, dataset_query, fetch, files_on_disk, read_batches
        from engine import connect, scan
        from splits import (
            article_metadata,
            check_for_leaks,
            split_by_date,
            stored_table,
            summarize,
            temporary_folder,
        )

        con = connect()
        with temporary_folder() as folder:
            dataset = fetch(self.DATASET, folder)
            files = files_on_disk(dataset)
            self.lineage["dataset"] = check_content(dataset, self.lineage)
            query = dataset_query(con, dataset, self.ROW_SAMPLING, self.SAMPLING_SEED)
            print(f"Fetching rows with query: {query}")
            for batch in read_batches(con, self.DATASET, f"from ({query}) limit 1"):
                for row in batch.to_pylist():
                    print(f"Example row {row}")
            (size,) = ask(con, dataset, "select count(*), sum(quantity)::bigint from {dataset}")
            rows_expected = size[0] * (self.ROW_SAMPLING or 100) // 100
            batches = show_progress(read_batches(con, self.DATASET, query), rows_expected)
            paths = split_by_date(batches, rows_expected, self.training_end_date, self.validation_end_date, folder)
            if files_on_disk(dataset) != files:
                raise DatasetError(f"the data set {self.DATASET} was replaced while it was read: run the flow again.")
            self.summary = summarize(con, paths)
            rows = {label: split["rows"] for label, split in self.summary.items()}
            if rows["train"] == 0:
                ((first, last),) = con.sql(f"select min(t_dat)::date, max(t_dat)::date from {scan(dataset)}").fetchall()
                raise DatasetError(
                    f"no row to train on before {self.TRAINING_END_DATE}"
                    f" (validation_end_date {self.VALIDATION_END_DATE}); the data set has the days {first} to {last},"
                    f" of which --row_sampling {self.ROW_SAMPLING} kept {sum(rows.values()):,} rows:"
                    " take all with --row_sampling 0, or dates within these days."
                )
            print(
                f"# {rows['train']:,} events in the training set,"
                f" {rows['valid']:,} for validation, {rows['test']:,} for test"
            )
            for label in ("valid", "test"):
                if rows[label] == 0:
                    print(
                        f"ATTENTION: {label} IS EMPTY: the data set has no row of its days; it is stored without rows"
                    )
            self.vocabulary = vocabulary.fit(con)
            self.item_id_2_meta = article_metadata(con, paths)
            everything = self.ROW_SAMPLING in (0, 100)
            self.leak_check = check_for_leaks(
                con,
                paths,
                self.training_end_date,
                self.validation_end_date,
                self.lineage.get("vars", {}).get("min_interactions", 1) if everything else 0,
                {column for meta in self.item_id_2_meta.values() for column in meta},
            )
            for rule, verdict in self.leak_check.items():
                if verdict != "passed":
                    raise DatasetError(f"the split leaks: '{rule}' is {verdict}; report this as a bug.")
            run = {
                "run_id": current.run_id,
                "row_sampling": self.ROW_SAMPLING,
                "sampling_seed": self.SAMPLING_SEED,
                "training_end_date": self.TRAINING_END_DATE,
                "validation_end_date": self.VALIDATION_END_DATE,
                "dataset": self.DATASET,
            }
            show_card(con, paths, self.summary, self.leak_check, self.lineage, run, size)
            con.close()  # its memory, before Metaflow holds the bytes of the tables, pickled and compressed too
            tables = {label: stored_table(path) for label, path in paths.items()}
        self.label_to_dataset = tables
        # The two small ones once more: who reads one of them need not load train.
        self.valid = tables["valid"]
        self.test = tables["test"]
        self.next(self.end)

    @step
    def end(self):
        """Say what the splits hold, and how to open them."""
        from summary import summary_text

        print(summary_text(self.summary, self.leak_check))
        # At most 37 columns each, as summary_text()'s, so that a terminal of 100 breaks none.
        print("See it: python data_prep.py \\")
        print("card view get_dataset")
        print("All done. Open the tables in Python:")
        print("from metaflow import Run")
        print(f'run = "{current.flow_name}/{current.run_id}"')
        print("data = Run(run).data")
        print("tables = data.label_to_dataset")


if __name__ == "__main__":
    DataPrepFlow()
