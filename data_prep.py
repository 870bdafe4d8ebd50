"""Stage 3: DataPrepFlow splits filtered_dataframe.parquet by date into versioned Arrow tables."""

import tempfile

from metaflow import FlowSpec, Parameter, current, step
from metaflow.metaflow_config import DATASTORE_SYSROOT_S3

from dataset import (
    DatasetError,
    ParquetTable,
    article_metadata,
    check_dataset,
    dataset_query,
    parse_day,
    split_by_date,
    summarize,
)
from engine import connect


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
    SAMPLING_SEED = Parameter(
        "sampling_seed", type=int, default=0, help="Same seed, same rows; 0 or more"
    )
    TRAINING_END_DATE = Parameter(
        "training_end_date", default="2020-09-08", help="train is every day before this one"
    )
    VALIDATION_END_DATE = Parameter(
        "validation_end_date",
        default="2020-09-15",
        help="valid goes from training_end_date up to the day before this one; test begins on it",
    )
    DATASET = Parameter(
        "dataset",
        default="filtered_dataframe.parquet",
        help="The parquet file that dbt wrote, or a folder of part files",
    )

    @step
    def start(self):
        """Check the parameters and the data set before any work is done."""
        print(f"flow name: {current.flow_name}")
        print(f"run id: {current.run_id}")
        print(f"username: {current.username}")
        print(f"DATASTORE_SYSROOT_S3: {DATASTORE_SYSROOT_S3}")
        if DATASTORE_SYSROOT_S3 is None:
            print("ATTENTION: LOCAL DATASTORE ENABLED")
        if not 0 <= self.ROW_SAMPLING <= 100:
            raise DatasetError(f"--row_sampling is {self.ROW_SAMPLING}: it must be a percent from 0 to 100; 0 keeps all rows.")
        if self.SAMPLING_SEED < 0:
            raise DatasetError(f"--sampling_seed is {self.SAMPLING_SEED}: it must be 0 or more.")
        self.training_end_date = parse_day("training_end_date", self.TRAINING_END_DATE)
        self.validation_end_date = parse_day("validation_end_date", self.VALIDATION_END_DATE)
        if self.validation_end_date <= self.training_end_date:
            raise DatasetError(
                f"--validation_end_date {self.VALIDATION_END_DATE} is not after --training_end_date {self.TRAINING_END_DATE}: valid would have no day."
            )
        notice = check_dataset(connect(), self.DATASET, self.training_end_date)
        if notice:
            print(notice)
        self.next(self.get_dataset)

    @step
    def get_dataset(self):
        """Sample if asked, split by date and store the three tables."""
        con = connect()
        query = dataset_query(self.DATASET, self.ROW_SAMPLING, self.SAMPLING_SEED)
        print(f"Fetching rows with query: {query}")
        example = con.execute(f"select * from ({query}) limit 1").to_arrow_table().to_pylist()
        if example:
            print(f"Example row {example[0]}")
        with tempfile.TemporaryDirectory() as folder:
            batches = con.execute(query).to_arrow_reader(100_000)
            paths = split_by_date(batches, self.training_end_date, self.validation_end_date, folder)
            self.summary = summarize(con, paths)
            rows = {label: split["rows"] for label, split in self.summary.items()}
            if rows["train"] == 0:
                first, last = con.execute(f"select min(t_dat)::date, max(t_dat)::date from ({dataset_query(self.DATASET, 0, 0)})").fetchone()
                raise DatasetError(
                    f"no row is left to train on before {self.TRAINING_END_DATE} (valid until {self.VALIDATION_END_DATE}; {sum(rows.values()):,} rows in all;"
                    f" the data set has {first} to {last}, sampled at {self.ROW_SAMPLING or 100} percent): keep all rows with --row_sampling 0, or set the dates within these days."
                )
            print(f"# {rows['train']:,} events in the training set, {rows['valid']:,} for validation, {rows['test']:,} for test")
            for label in ("valid", "test"):
                if rows[label] == 0:
                    print(f"ATTENTION: {label} IS EMPTY, no row of the data set lies in its days; it is stored as a table without rows")
            self.item_id_2_meta = article_metadata(con, paths)
            tables = {label: ParquetTable(path) for label, path in paths.items()}
        self.label_to_dataset = tables
        # The two small ones once more: who reads one of them need not load train.
        self.valid = tables["valid"]
        self.test = tables["test"]
        self.next(self.end)

    @step
    def end(self):
        """Say how to open the tables."""
        print("All done. Open the tables in Python:")
        print("  from metaflow import Flow")
        print(f"  tables = Flow('{current.flow_name}')['{current.run_id}'].data.label_to_dataset")


if __name__ == "__main__":
    DataPrepFlow()
