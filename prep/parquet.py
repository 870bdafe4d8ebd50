"""Record batches become one parquet file whose row groups, and so its bytes, do not hang on the batches."""

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prep.errors import PrepError

ROW_GROUP_ROWS = 122_880  # of DuckDB's own files, and few enough to wait in memory
PAGE_STEP = 1_024  # rows of a piece after which pyarrow looks whether a page is full (write_batch_size)
MOST_WAITING = 10_000  # runs of rows; a join in memory lets some hundred wait


def write_parquet(
    path: Path,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    group_rows: int = ROW_GROUP_ROWS,
    marks: Callable[[], dict[str, str]] = dict,
    **options: Any,
) -> int:
    """Write record batches as a parquet file with `group_rows` rows in each row group but the last; returns the rows.

    DuckDB cuts a stream into batches, and the row groups of its own COPY, as its threads come and go.
    `marks`, the file's metadata, is asked once all rows are written. `options` are those of
    pyarrow.parquet.ParquetWriter.
    """
    waiting: list[pa.RecordBatch] = []
    rows, missing = 0, group_rows
    with pq.ParquetWriter(path, schema, compression="zstd", **options) as writer:

        def write() -> None:
            group = pa.Table.from_batches(waiting, schema)
            if any(part.num_rows % PAGE_STEP for part in waiting):
                group = group.combine_chunks()  # else its pages would hang on the pieces
            waiting.clear()
            writer.write_table(group, row_group_size=group_rows)

        for batch in batches:
            rows += batch.num_rows
            while batch.num_rows:
                part = batch.slice(0, missing)
                batch = batch.slice(part.num_rows)
                waiting.append(part)
                missing -= part.num_rows
                if missing == 0:
                    write()
                    missing = group_rows
        if waiting:
            write()
        writer.add_key_value_metadata(marks())
    return rows


class OutOfOrderError(Exception):
    """The rows of a query come in no order that could be put right as they come."""


def in_order(
    batches: Iterable[pa.RecordBatch], place: str, first: int = 0, most_waiting: int = MOST_WAITING
) -> Iterator[pa.RecordBatch]:
    """Yield the rows in the order of the column `place`, without it: `first`, the next number, and so on.

    A join hands out long runs of consecutive places, nearly in order: a run waits until its turn has come.
    Raises OutOfOrderError where more wait, as when the join's tables did not fit into memory.
    """
    waiting: list[tuple[int, int, pa.RecordBatch]] = []
    number, turn = itertools.count(), first
    for batch in batches:
        places = batch.column(place).to_numpy()
        batch = batch.drop_columns([place])
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        for start, end in itertools.pairwise([0, *cuts.tolist(), len(places)]):
            if end > start:
                heapq.heappush(waiting, (int(places[start]), next(number), batch.slice(start, end - start)))
            if len(waiting) > most_waiting:
                raise OutOfOrderError
        while waiting and waiting[0][0] <= turn:
            start, _, run = heapq.heappop(waiting)
            turn = start + run.num_rows
            yield run
    while waiting:  # behind a place that the join left out
        yield heapq.heappop(waiting)[2]


def with_unique_key(batches: Iterable[pa.RecordBatch], key: list[str], what: str) -> Iterator[pa.RecordBatch]:
    """Yield the batches; PrepError where a row lacks a part of its key, or two neighbours have the same."""
    last = None
    for batch in batches:
        columns = [batch.column(name) for name in key]
        if nulls := [name for name, column in zip(key, columns, strict=True) if column.null_count]:
            raise PrepError(f"{what} has rows without {', '.join(nulls)}, parts of the row key.")
        same = pa.array(np.ones(max(batch.num_rows - 1, 0), dtype=bool))
        for column in columns:
            same = pc.and_(same, pc.equal(column[1:], column[:-1]))
        ends = [tuple(column[at].as_py() for column in columns) for at in (0, -1) if batch.num_rows]
        if pc.any(same).as_py() or (ends and ends[0] == last):
            raise PrepError(f"{what} has two rows with one {', '.join(key)}, the row key.")
        last = ends[-1] if ends else last
        yield batch
