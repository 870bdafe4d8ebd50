"""An order-independent hash of a table's rows: equal rows, equal fingerprint, whatever engine wrote them."""

import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

_NULL = np.uint64(0x9E3779B97F4A7C15)
_ROWS = 100_000  # at a time: the arrays of a batch stay in the processor's cache or near it


def fingerprint(path: Path, schema: pa.Schema) -> str:
    """The fingerprint of the parquet file's rows, as 16 hex digits.

    Each cell becomes 64 bits (whole numbers and days as they are, floats by their bits, text by
    pandas.util.hash_array, the null one constant), a row the sum of its cells times one odd number
    per column (64 bits of the sha256 of its name, the last one set), mixed (the finalizer of
    splitmix64, Steele et al. 2014), and the table the sum of its rows modulo 2**64: so neither the
    order of the rows nor how they were split over files or batches matters, and a row that stands
    twice counts twice.
    """
    groups = range(pq.read_metadata(path).num_row_groups)
    with ThreadPoolExecutor(2) as pool:  # numpy and pyarrow let them run side by side; each holds a row group
        total = sum(pool.map(functools.partial(_row_group, path, schema), groups))
    return f"{total % 2**64:016x}"


def _row_group(path: Path, schema: pa.Schema, number: int) -> int:
    """The sum of the mixed rows of one row group."""
    factors = [np.uint64(int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) | 1) for name in schema.names]
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    known = {}  # column -> (dictionary, its hashes): a row group has the same one from its first batch on
    total = np.uint64(0)
    with np.errstate(over="ignore"), pq.ParquetFile(path, read_dictionary=text) as file:
        for batch in file.iter_batches(_ROWS, row_groups=[number], use_threads=False):
            rows = np.zeros(batch.num_rows, np.uint64)
            for name, factor in zip(schema.names, factors, strict=True):
                rows += _cells(batch.column(name), name, known) * factor
            rows ^= rows >> np.uint64(30)
            rows *= np.uint64(0xBF58476D1CE4E5B9)
            rows ^= rows >> np.uint64(27)
            rows *= np.uint64(0x94D049BB133111EB)
            rows ^= rows >> np.uint64(31)
            total += rows.sum(dtype=np.uint64)
    return int(total)


def _cells(column: pa.Array, name: str, known: dict[str, tuple[pa.Array, np.ndarray]]) -> np.ndarray:
    """64 bits for each cell of an Arrow array."""
    if pa.types.is_dictionary(column.type):
        if name not in known or not known[name][0].equals(column.dictionary):
            texts = column.dictionary.to_numpy(zero_copy_only=False)
            known[name] = column.dictionary, pd.util.hash_array(texts, categorize=False)
        cells = known[name][1][column.indices.fill_null(0).to_numpy()] if len(column.dictionary) else None
    elif pa.types.is_floating(column.type):
        cells = (column.fill_null(0).to_numpy(zero_copy_only=False) + 0.0).view(np.uint64)  # -0.0 is 0.0
    else:
        cells = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    if column.null_count:
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        cells = np.full(len(column), _NULL) if cells is None else np.where(nulls, _NULL, cells)
    return cells
