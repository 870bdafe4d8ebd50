"""Stage 3, row by row: every row a Python dict, every split a table made from a list of them."""

from datetime import datetime

from metaflow import FlowSpec, Parameter, step


class RowByRowFlow(FlowSpec):
    """Fetch all rows, make a dict of each, and store the three tables: start, get_dataset, end."""

    DATASET = Parameter("dataset", default="filtered_dataframe.parquet")

    @step
    def start(self):
        """Set the two dates."""
        self.training_end_date = datetime(2020, 9, 8)
        self.validation_end_date = datetime(2020, 9, 15)
        self.next(self.get_dataset)

    @step
    def get_dataset(self):
        """Split the rows into the three tables."""
        import duckdb
        import pyarrow as pa

        cursor = duckdb.connect().execute("select * from read_parquet(?)", [self.DATASET])
        columns = [column[0] for column in cursor.description]
        rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        train = pa.Table.from_pylist([row for row in rows if row["t_dat"] < self.training_end_date])
        valid = pa.Table.from_pylist(
            [row for row in rows if self.training_end_date <= row["t_dat"] < self.validation_end_date]
        )
        test = pa.Table.from_pylist([row for row in rows if row["t_dat"] >= self.validation_end_date])
        self.label_to_dataset = {"train": train, "valid": valid, "test": test}
        self.next(self.end)

    @step
    def end(self):
        """Nothing is left to do."""


if __name__ == "__main__":
    RowByRowFlow()
