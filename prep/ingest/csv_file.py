"""One CSV file as DuckDB reads it.

The dialect is DuckDB's strict one: UTF-8, comma, cells in double quotes where they hold a comma, a
quote (doubled) or a line break, and one kind of line end. DuckDB alone decides what a row is and
whether it is good; bad_rows.py finds the line.
"""

import contextlib
import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import duckdb

from prep.duck import identifier, literal, path_literal
from prep.errors import PrepError
from prep.ingest import rules
from prep.manifest import Content, content_of
from prep.shop import RawTable

LONGEST_LINE = 8_000_000  # characters
READ_BUFFER = 4 * LONGEST_LINE  # bytes; DuckDB's own 16 times the line takes twice the memory, and more time

# How a file begins that is no CSV text, what it is, and what to do with it.
OTHER_FORMATS = {
    b"PK\x03\x04": ("a zip archive (or a spreadsheet)", "unpack it, or save it as CSV"),
    b"\x1f\x8b": ("compressed with gzip", "name it .csv.gz, or decompress it"),
    b"BZh": ("compressed with bzip2", "decompress it"),
    b"\xfd7zXZ": ("compressed with xz", "decompress it"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "decompress it"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"Rar!": ("a rar archive", "unpack it"),
    b"PAR1": ("a parquet file", "name it .parquet, or save it as CSV"),
    b"ORC": ("an ORC file", "save it as CSV"),
    b"ARROW1": ("an Arrow file", "save it as CSV"),
    b"Obj\x01": ("an Avro file", "save it as CSV"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Office document", "save it as CSV"),
    b"%PDF": ("a PDF document", "download the CSV file"),
    b"\x80\x04\x95": ("a Python pickle", "save it as CSV"),
    b"\x80\x05\x95": ("a Python pickle", "save it as CSV"),
    b"\xff\xfe": ("text in UTF-16", "save it as UTF-8"),
    b"\xfe\xff": ("text in UTF-16", "save it as UTF-8"),
}
WEB_PAGES = (b"<!doctype", b"<html", b"<?xml")  # what a download without a login leaves


def check_format(path: Path, head: bytes) -> None:
    """Refuse a file whose first bytes are those of another format than CSV text."""
    for begin, (what, cure) in OTHER_FORMATS.items():
        if head.startswith(begin):
            raise PrepError(f"{path} is {what}, no CSV text: {cure}.")
    if head.lstrip().lower().startswith(WEB_PAGES):
        raise PrepError(f"{path} is a web page, no CSV text: download the file itself, signed in.")


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The text of the CSV file as bytes, decompressed where its name ends in .gz."""
    with path.open("rb") as raw:
        head = raw.read(64)
        raw.seek(0)
        if path.suffix != ".gz":
            check_format(path, head)
            yield raw
            return
        if not head.startswith(b"\x1f\x8b"):
            check_format(path, head)
            raise PrepError(f"{path} is cut off or no gzip file: download it again, or take .gz from its name.")
        try:
            with gzip.open(raw) as text:
                check_format(path, text.peek(64)[:64])
                yield text  # type: ignore[misc]
        except (EOFError, zlib.error) as error:
            raise PrepError(f"{path} is cut off or damaged ({error}): download it again.") from error
        except gzip.BadGzipFile as error:
            raise PrepError(
                f"{path} holds bytes that are no gzip data ({error}): decompress it and compress it again."
            ) from error


def read_header(path: Path, record: bytes, needed: list[str]) -> list[str]:
    """The column names of the CSV file, in its order."""
    try:
        text = record.decode("utf-8-sig")
        header = next(csv.reader([text], strict=True), None) if text.strip("\r\n") else None
    except UnicodeDecodeError:
        raise PrepError(
            f"{path}, line 1: the header holds bytes that are no UTF-8 text: save the file as UTF-8."
        ) from None
    except csv.Error as error:
        raise PrepError(f"{path}, line 1: the header cannot be read ({error}): download the file again.") from error
    if not header:
        raise PrepError(f"{path} is empty: download it again.")
    for column in needed:
        if column not in header:
            shown = ",".join(header)
            raise PrepError(
                f"{path}, line 1: column {column} is missing in the header"
                f" {shown[:300]!r}{'...' * (len(shown) > 300)}: it must be there once."
            )
    names = [column.casefold() for column in header]  # to DuckDB, price and Price are one column
    for column in header:
        if column == "" or names.count(column.casefold()) > 1:
            state = "has no name" if column == "" else "stands twice"
            raise PrepError(f"{path}, line 1: column {column!r} {state} in the header: give it a name of its own.")
    return header


class CsvFile:
    """One CSV file: its columns, its rules and its rows."""

    def __init__(self, path: Path, table: RawTable) -> None:
        self.path = path
        csv.field_size_limit(LONGEST_LINE)
        with open_bytes(path) as file:
            first = file.readline(LONGEST_LINE)
            while first.count(b'"') % 2 and (more := file.readline(LONGEST_LINE)):
                first += more
            self.first = first  # the line, or lines, of the header
            needed = [column.name for column in table.columns if not column.optional]
            self.header = read_header(path, first, needed)
        self.known = {column.name: column for column in table.columns if column.name in self.header}

    def content(self, go_on: Callable[[], None]) -> Content:
        """The file's content hash; counts the lines after the header on the way.

        `go_on`, asked for each block, may raise.
        """
        lines, quoted, last = 0, False, b""

        def count(block: bytes | bytearray) -> None:
            nonlocal lines, quoted, last
            go_on()
            lines += block.count(b"\n")
            quoted = quoted or b'"' in block
            last = bytes(block[-1:])

        if self.path.suffix == ".gz":
            with open_bytes(self.path) as file:
                while block := file.read(1 << 20):
                    count(block)
            content = content_of(self.path, lambda block: go_on())
        else:
            content = content_of(self.path, count)
        if last != b"\n":
            raise PrepError(
                f"{self.path} does not end with a newline, so its last line may be cut off: download the file again."
            )
        self.lines, self.quoted = lines - self.first.count(b"\n"), quoted
        return content

    def scan(self, path: Path | None = None, parallel: bool = True) -> str:
        """The read_csv call, every cell as text: nothing is guessed, nothing is skipped.

        `path` is another file of the same form, uncompressed.
        """
        types = ", ".join(f"{literal(column)}: 'varchar'" for column in self.header)
        compression = "gzip" if path is None and self.path.suffix == ".gz" else "none"
        return (
            f"read_csv({path_literal(path or self.path)}, auto_detect = false, header = true, delim = ',',"
            f" quote = '\"', escape = '\"', nullstr = '', max_line_size = {LONGEST_LINE}, buffer_size = {READ_BUFFER},"
            f" compression = '{compression}', ignore_errors = false, parallel = {parallel}, columns = {{{types}}})"
        )

    def rules(self) -> dict[str, str]:
        """{column: SQL that says whether its cell is good, never null}."""
        return {name: rules.rule(column) for name, column in self.known.items()}

    def valid(self) -> str:
        """SQL: does the row meet every rule? Never null."""
        return f"coalesce({' and '.join(self.rules().values())}, false)"

    def checked(self, rows_of: str) -> str:
        """SQL: these rows, and an error where one breaks a rule."""
        return f"{rows_of} where case when {self.valid()} then true else error('bad row') end"

    def columns(self) -> str:
        """SQL: the columns of the parquet file."""
        return ", ".join(
            rules.typed(self.known[name]) if name in self.known else identifier(name) for name in self.header
        )

    def line_breaks(self) -> str:
        """SQL: the line breaks inside the cells of all rows."""
        breaks = " + ".join(
            f"coalesce(length({cell}) - length(replace({cell}, chr(10), '')), 0)"
            for cell in map(identifier, self.header)
        )
        return f"coalesce(sum({breaks}), 0)::bigint"

    def check_every_line_is_a_row(
        self, con: duckdb.DuckDBPyConnection, scan: str, rows: int, lines: int | None = None
    ) -> None:
        """Each of the lines after the header is a row, or a line break inside a cell; else a duckdb.Error.

        `lines` are those of another file of the same form. Without them, content() has counted.
        """
        lines = self.lines if lines is None else lines
        if rows != lines:  # read once more for the line breaks in its cells
            breaks = con.sql(f"select {self.line_breaks()} from {scan}").fetchall()[0][0] if self.quoted else 0
            if rows + breaks != lines:
                raise duckdb.DataError(f"{lines:,} lines after the header and {rows:,} rows")
