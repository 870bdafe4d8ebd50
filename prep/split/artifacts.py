"""Tables and arrays as artifacts that open with pyarrow alone."""

import importlib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prep.parquet import ROW_GROUP_ROWS
from prep.shop import Shop
from prep.split.splits import DIMENSIONS, Split


class Call:
    """Unpickles as what the function returns for these arguments."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self._call


class Content:
    """Unpickles as the bytes of the file.

    They are read when it is pickled: Metaflow then holds them three times, and bytes held here would be a
    fourth. The file stays open, so it may be removed before, as temporary files are.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __reduce__(self) -> tuple[type, tuple]:
        self._file.seek(0)
        return bytes, (self._file.read(),)


def public(module: str, name: str, *arguments: Any) -> Call:
    """The call module.name(*arguments), stored by public names alone: a class itself would be by its private module."""
    return Call(operator.methodcaller(name, *arguments), Call(importlib.import_module, module))


def stored_table(split: Split, shop: Shop) -> Call:
    """The split as an artifact that unpickles as a plain pyarrow.Table with the shop's columns.

    The one who reads it needs pyarrow, of any version, and nothing of this project: pyarrow puts the wide
    table together out of the star's files. The step that stores it never holds that table.
    """
    facts = stored_file(split.facts)
    columns = {name: Call(operator.methodcaller("column", name), facts) for name in pq.read_schema(split.facts).names}
    rows = pq.read_metadata(split.facts).num_rows
    for what in DIMENSIONS:
        places = Call(operator.methodcaller("combine_chunks"), columns[shop.key(what)])
        pieces = [
            Call(operator.methodcaller("slice", start, ROW_GROUP_ROWS), places)
            for start in range(0, max(rows, 1), ROW_GROUP_ROWS)
        ]
        places = public("pyarrow", "chunked_array", pieces)  # a piece of text holds 2 GB at most
        described = pq.read_schema(split.dimension(what)).names
        table = stored_file(split.dimension(what))
        for name in described:
            # In one piece: pyarrow looks into pieces one by one for each row.
            cells = Call(operator.methodcaller("combine_chunks"), Call(operator.methodcaller("column", name), table))
            columns[name] = public("pyarrow.compute", "take", cells, places)
    return public("pyarrow", "table", [columns[name] for name in shop.names], shop.names)


def stored_file(path: Path) -> Call:
    """The parquet file as a plain pyarrow.Table.

    Not io.BytesIO, which copies the bytes. Read by one thread: those that pyarrow starts abort one in
    twenty processes that end right after it, and with older versions one in four.
    """
    file = public("pyarrow", "BufferReader", Content(path))
    return Call(operator.methodcaller("read", None, False), public("pyarrow.parquet", "ParquetFile", file))


def stored_array(array: pa.Array) -> Call:
    """The array as an artifact that unpickles as a plain pyarrow.Array, by public names alone."""
    sink = pa.BufferOutputStream()
    table = pa.table({"values": array})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream = public("pyarrow.ipc", "open_stream", public("pyarrow", "BufferReader", sink.getvalue().to_pybytes()))
    column = Call(operator.methodcaller("column", 0), Call(operator.methodcaller("read_all"), stream))
    return Call(operator.methodcaller("combine_chunks"), column)
