"""Record batches become one parquet file whose row groups, and so its bytes, do not hang on the batches."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 122_880  # of DuckDB's own files, and few enough to wait in memory


class TableWriter:
    """Writes record batches as a parquet file with exactly `group_rows` rows in each row group but the last.

    DuckDB cuts a stream into batches, and the row groups of its own COPY, as its threads come and go.
    `options` are those of pyarrow.parquet.ParquetWriter.
    """

    def __init__(self, path: Path, schema: pa.Schema, group_rows: int = ROW_GROUP_ROWS, **options: Any) -> None:
        self.rows = 0
        self._schema, self._group_rows = schema, group_rows
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", **options)
        self._waiting, self._rows_waiting = [], 0

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        with self._writer:
            if error_type is None and self._rows_waiting:
                self._write_group()

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            part = batch.slice(0, self._group_rows - self._rows_waiting)
            batch = batch.slice(part.num_rows)
            self._waiting.append(part)
            self._rows_waiting += part.num_rows
            if self._rows_waiting == self._group_rows:
                self._write_group()

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting, self._schema), row_group_size=self._rows_waiting)
        self.rows += self._rows_waiting
        self._waiting, self._rows_waiting = [], 0
