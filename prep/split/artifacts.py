"""Tables and arrays as artifacts that open with pyarrow alone."""

import importlib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa


class Call:
    """Unpickles as what the function returns for these arguments."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self._call


def public(module: str, name: str, *arguments: Any) -> Call:
    """The call module.name(*arguments), stored by public names alone: a class itself would be by its private module."""
    return Call(operator.methodcaller(name, *arguments), Call(importlib.import_module, module))


def stored_table(path: Path) -> Call:
    """The parquet file as an artifact that unpickles as a plain pyarrow.Table.

    The one who reads it needs pyarrow, of any version, and nothing of this project, and the step that
    stores it never holds the table. Not io.BytesIO, which copies the bytes, and not read_table(), whose
    threads abort one in twenty processes that end right after it.
    """
    file = public("pyarrow", "BufferReader", path.read_bytes())
    return Call(operator.methodcaller("read"), public("pyarrow.parquet", "ParquetFile", file))


def stored_array(array: pa.Array) -> Call:
    """The array as an artifact that unpickles as a plain pyarrow.Array, by public names alone."""
    sink = pa.BufferOutputStream()
    table = pa.table({"values": array})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream = public("pyarrow.ipc", "open_stream", public("pyarrow", "BufferReader", sink.getvalue().to_pybytes()))
    column = Call(operator.methodcaller("column", 0), Call(operator.methodcaller("read_all"), stream))
    return Call(operator.methodcaller("combine_chunks"), column)
