"""One CSV file of the H&M data: its columns, the rules they keep, and where a line breaks one.

The dialect is DuckDB's strict one: UTF-8, comma, cells in double quotes where they hold a comma, a
quote (doubled) or a line break, and one kind of line end. DuckDB alone decides what a row is and
whether it is good; Python finds the line by asking DuckDB about fewer and fewer of them.
"""

import contextlib
import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import duckdb

from engine import first_line, identifier, literal, path_literal
from lineage import file_identity


@dataclass(frozen=True)
class Kind:
    """What the text of a needed cell must look like, and the type that it becomes."""

    name: str  # for the error: '<text>' is not <name>
    sql_type: str
    pattern: str | None = None  # a regular expression for the whole text; None: any text


TEXT = Kind("a text", "varchar")
ARTICLE_ID = Kind("an article_id of 10 digits", "varchar", "[0-9]{10}")
CODE = Kind("a code of digits", "varchar", "[0-9]{1,18}")
DATE = Kind("a date like 2020-09-08", "date", "[12][0-9]{3}-[0-9]{2}-[0-9]{2}")
NUMBER = Kind("a number", "double", "-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,2})?")
WHOLE = Kind("a whole number", "bigint", "-?[0-9]{1,18}")

# The columns that the pipeline needs. Others are carried along as text.
COLUMNS = {
    "articles": {
        "article_id": ARTICLE_ID,
        "product_code": CODE,
        "product_type_no": WHOLE,
        "product_group_name": TEXT,
        "graphical_appearance_no": WHOLE,
        "colour_group_code": WHOLE,
        "perceived_colour_value_id": WHOLE,
        "perceived_colour_master_id": WHOLE,
        "department_no": WHOLE,
        "index_code": TEXT,
        "index_group_no": WHOLE,
        "section_no": WHOLE,
        "garment_group_no": WHOLE,
    },
    "customers": {
        "customer_id": TEXT,
        "FN": NUMBER,
        "Active": NUMBER,
        "club_member_status": TEXT,
        "fashion_news_frequency": TEXT,
        "age": NUMBER,
        "postal_code": TEXT,
    },
    "transactions_train": {
        "t_dat": DATE,
        "customer_id": TEXT,
        "article_id": ARTICLE_ID,
        "price": NUMBER,
        "sales_channel_id": WHOLE,
    },
}
LONGEST_LINE = 8_000_000  # characters
READ_BUFFER = 4 * LONGEST_LINE  # bytes; DuckDB's own 16 times the line takes twice the memory, and more time
LINES_AT_ONCE = 100_000  # of a file with faults
KEYS = {"articles": "article_id", "customers": "customer_id"}
# The published data has nulls here, and they mean something; everywhere else an empty cell is damage.
NULLABLE = {"FN", "Active", "club_member_status", "fashion_news_frequency", "age", "postal_code"}

# How a file begins that is no CSV text, what it is, and what to do with it.
OTHER_FORMATS = {
    b"PK\x03\x04": ("a zip archive (or a spreadsheet)", "unpack it, or save it as CSV"),
    b"\x1f\x8b": ("compressed with gzip", "name it .csv.gz, or decompress it"),
    b"BZh": ("compressed with bzip2", "decompress it"),
    b"\xfd7zXZ": ("compressed with xz", "decompress it"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "decompress it"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"Rar!": ("a rar archive", "unpack it"),
    b"PAR1": ("a parquet file", "save it as CSV"),
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


# (file, line, column, reason, text) of a row put aside.
Reject = tuple[str, int, str, str, str]


class DatasetError(Exception):
    """Why no dataset was written: one sentence that names the place, the value and the cure."""


def find_csv(data_dir: Path, name: str) -> Path:
    """The path of NAME.csv or NAME.csv.gz in `data_dir`."""
    found = [path for end in (".csv", ".csv.gz") if (path := data_dir / (name + end)).is_file()]
    if not found:
        raise DatasetError(
            f"{name}.csv (or {name}.csv.gz) is missing in {data_dir.resolve()}: put Kaggle's three files there,"
            " or name their folder with --data-dir."
        )
    if len(found) == 2:
        raise DatasetError(f"{data_dir} holds both {name}.csv and {name}.csv.gz: remove one of the two.")
    return found[0]


def check_format(path: Path, head: bytes) -> None:
    """Refuse a file whose first bytes are those of another format than CSV text."""
    for begin, (what, cure) in OTHER_FORMATS.items():
        if head.startswith(begin):
            raise DatasetError(f"{path} is {what}, no CSV text: {cure}.")
    if head.lstrip().lower().startswith(WEB_PAGES):
        raise DatasetError(f"{path} is a web page, no CSV text: download the file itself, signed in.")


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
            raise DatasetError(f"{path} is cut off or no gzip file: download it again, or take .gz from its name.")
        try:
            with gzip.open(raw) as text:
                check_format(path, text.peek(64)[:64])
                yield text
        except (EOFError, zlib.error) as error:
            raise DatasetError(f"{path} is cut off or damaged ({error}): download it again.") from error
        except gzip.BadGzipFile as error:
            raise DatasetError(
                f"{path} holds bytes that are no gzip data ({error}): decompress it and compress it again."
            ) from error


def records(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, put together where a quote is left open: one record of the file, most likely.

    Only its guess is made here. Whether a record is good, and how many rows it is, DuckDB says.
    """
    group: list[bytes] = []
    quotes = size = 0
    for line in lines:
        group.append(line)
        quotes += line.count(b'"')
        size += len(line)
        if quotes % 2 and size > LONGEST_LINE:  # too long for a record, so that quote has opened nothing
            yield group[0]
            yield from records(group[1:])
        elif quotes % 2:
            continue
        else:
            yield b"".join(group)
        group, quotes, size = [], 0, 0
    if group:
        yield b"".join(group)


def read_header(path: Path, record: bytes, needed: Iterable[str]) -> list[str]:
    """The column names of the CSV file, in its order."""
    try:
        text = record.decode("utf-8-sig")
        header = next(csv.reader([text], strict=True), None) if text.strip("\r\n") else None
    except UnicodeDecodeError:
        raise DatasetError(
            f"{path}, line 1: the header holds bytes that are no UTF-8 text: save the file as UTF-8."
        ) from None
    except csv.Error as error:
        raise DatasetError(f"{path}, line 1: the header cannot be read ({error}): download the file again.") from error
    if not header:
        raise DatasetError(f"{path} is empty: download it again.")
    for column in needed:
        if column not in header:
            shown = ",".join(header)
            raise DatasetError(
                f"{path}, line 1: column {column} is missing in the header"
                f" {shown[:300]!r}{'...' * (len(shown) > 300)}: it must be there once."
            )
    names = [column.casefold() for column in header]  # to DuckDB, price and Price are one column
    for column in header:
        if column == "" or names.count(column.casefold()) > 1:
            state = "has no name" if column == "" else "stands twice"
            raise DatasetError(f"{path}, line 1: column {column!r} {state} in the header: give it a name of its own.")
    return header


class CsvFile:
    """One CSV file as DuckDB reads it: its columns, its rules and its rows."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self.name, self.kinds = name, COLUMNS[name]
        self.path = find_csv(data_dir, name)
        self._state = self._state_on_disk()
        with open_bytes(self.path) as file:
            csv.field_size_limit(LONGEST_LINE)
            first = file.readline(LONGEST_LINE)
            while first.count(b'"') % 2 and (more := file.readline(LONGEST_LINE)):
                first += more
            self._first = first
            self.header = read_header(self.path, first, self.kinds)

    def _state_on_disk(self) -> tuple[int, int, int]:
        state = self.path.stat()
        return state.st_ino, state.st_size, state.st_mtime_ns

    def check_unchanged(self) -> None:
        """Refuse a file that was replaced or written to since it was opened: its content hash is of another one."""
        if self._state_on_disk() != self._state:
            raise DatasetError(f"{self.path} was changed while it was read: start again once it is whole.")

    def identity(self) -> dict[str, str | int]:
        """The file's content hash; counts the lines after the header on the way."""
        lines, quoted, last = 0, False, b""

        def count(block: bytes | bytearray) -> None:
            nonlocal lines, quoted, last
            lines += block.count(b"\n")
            quoted = quoted or b'"' in block
            last = block[-1:]

        if self.path.suffix == ".gz":
            with open_bytes(self.path) as file:
                while block := file.read(1 << 20):
                    count(block)
            identity = file_identity(self.path)
        else:
            identity = file_identity(self.path, count)
        if last != b"\n":
            raise DatasetError(
                f"{self.path} does not end with a newline, so its last line may be cut off: download the file again."
            )
        self.lines, self.quoted = lines - self._first.count(b"\n"), quoted
        return identity

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

    def _rules(self) -> dict[str, str]:
        """{column: SQL that says whether its cell is good, never null}."""
        rules = {}
        for column, kind in self.kinds.items():
            cell, conditions = identifier(column), []
            if kind.pattern is not None:
                conditions.append(f"regexp_full_match({cell}, {literal(kind.pattern)})")
            if kind.sql_type == "double":  # 400 nines match the pattern and are no number that a double holds
                conditions.append(f"coalesce(isfinite(try_cast({cell} as double)), false)")
            elif kind.sql_type != "varchar":
                conditions.append(f"try_cast({cell} as {kind.sql_type}) is not null")
            rule = " and ".join(conditions) or "true"
            rules[column] = f"({cell} is null or {rule})" if column in NULLABLE else f"({cell} is not null and {rule})"
        return rules

    def valid(self) -> str:
        """SQL: does the row meet every rule? Never null."""
        return f"coalesce({' and '.join(self._rules().values())}, false)"

    def columns(self) -> str:
        """SQL: the columns of the parquet file."""
        return ", ".join(
            f"try_cast({identifier(column)} as {self.kinds[column].sql_type}) as {identifier(column)}"
            if column in self.kinds
            else identifier(column)
            for column in self.header
        )

    def line_breaks(self) -> str:
        """SQL: the line breaks inside the cells of all rows."""
        breaks = " + ".join(
            f"coalesce(length({cell}) - length(replace({cell}, chr(10), '')), 0)"
            for cell in map(identifier, self.header)
        )
        return f"coalesce(sum({breaks}), 0)::bigint"

    # Where DuckDB has refused the file

    def put_bad_rows_aside(
        self, con: duckdb.DuckDBPyConnection, good: Path, rejects: list[Reject], allowed: int
    ) -> int:
        """Write the file again without its bad rows as `good`, and append these to `rejects`.

        A reject is (file, line, column, reason, text). More than `allowed` in all is an error that
        shows the first one too many. Returns the number of lines of `good` after its header.
        """
        piece = good.with_name("piece.csv")
        number, kept = 1 + self._first.count(b"\n"), 0
        with open_bytes(self.path) as file, good.open("wb") as target:
            file.seek(len(self._first))
            target.write(self._first)
            rows = records(file)
            while chunk := self._chunk(rows):
                for record, is_good in self._judge(con, piece, chunk):
                    if is_good:
                        target.write(record)
                        kept += record.count(b"\n")
                    else:
                        self._reject(con, piece, record, number, rejects, allowed)
                    number += record.count(b"\n")
        return kept

    @staticmethod
    def _chunk(rows: Iterator[bytes]) -> list[bytes]:
        chunk, lines, size = [], 0, 0
        for record in rows:
            chunk.append(record)
            lines, size = lines + record.count(b"\n"), size + len(record)
            if lines >= LINES_AT_ONCE or size >= 4 * LONGEST_LINE:
                break
        return chunk

    def _judge(self, con: duckdb.DuckDBPyConnection, piece: Path, chunk: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        """Yield (records, True) that are good and (record, False) that is not, in their order."""
        if self._is_good(con, piece, b"".join(chunk)):
            yield b"".join(chunk), True
        elif len(chunk) > 1:
            half = len(chunk) // 2
            yield from self._judge(con, piece, chunk[:half])
            yield from self._judge(con, piece, chunk[half:])
        else:
            lines = [line + b"\n" for line in chunk[0].split(b"\n")[:-1]]
            rest = list(records(lines[1:]))
            first = bool(rest) and self._is_good(con, piece, lines[0])
            # A quote that opens nothing, or is never closed, spoils its own line, not the good ones behind it.
            if first or any(self._is_good(con, piece, record) for record in {*rest[:1], *rest[-1:]}):
                yield lines[0], first
                yield from self._judge(con, piece, rest)
            else:
                yield chunk[0], False

    def _is_good(self, con: duckdb.DuckDBPyConnection, piece: Path, text: bytes) -> bool:
        """Does DuckDB read these lines, all of them, and keep they every rule?"""
        piece.write_bytes(self._first + text)
        query = f"select count(*) + {self.line_breaks()}, count(*) filter (not {self.valid()})"
        try:
            ((lines, bad),) = con.sql(f"{query} from {self.scan(piece, parallel=False)}").fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            return False
        return bad == 0 and lines == text.count(b"\n")

    def _reject(
        self,
        con: duckdb.DuckDBPyConnection,
        piece: Path,
        record: bytes,
        number: int,
        rejects: list[Reject],
        allowed: int,
    ) -> None:
        body = record.rstrip(b"\r\n")
        header_end, end = ("\r\n" if line.endswith(b"\r\n") else "\n" for line in (self._first, record))
        if b"\r" in body and b'"' not in body:
            end = "\r"
        if body and end != header_end:
            raise DatasetError(
                f"{self.path}, line {number}: the line ends in {end!r} and the header in {header_end!r}:"
                " let all lines of the file end alike."
            )
        column, reason = self._fault(con, piece, record)
        rejects.append((self.path.name, number, column, reason, body.decode(errors="surrogateescape")))
        if len(rejects) > allowed:
            place = f"{self.path}, line {number}" + (f", column {column}" if column else "")
            more = f" (bad row {len(rejects)} of the {allowed} allowed)" if allowed else ""
            raise DatasetError(
                f"{place}: {reason}{more}; mend the file, or raise --max-bad-rows to put such lines aside."
            )

    def _fault(self, con: duckdb.DuckDBPyConnection, piece: Path, record: bytes) -> tuple[str, str]:
        """(column, reason): what is wrong with this one record. The column is '' when it is the whole line."""
        if not record.strip(b"\r\n"):
            return "", "the line is empty"
        try:
            record.decode()
        except UnicodeDecodeError:
            return "", "the line holds bytes that are no UTF-8 text"
        if len(record) > LONGEST_LINE:
            return "", f"the line has {len(record):,} bytes, more than {LONGEST_LINE:,}"
        piece.write_bytes(self._first + record)
        rules = self._rules()
        wanted = ", ".join([*rules.values(), *(f"left({identifier(column)}, 61)" for column in rules)])
        try:
            rows = con.sql(f"select {wanted} from {self.scan(piece, parallel=False)}").fetchall()
        except duckdb.Error as error:
            for line in str(error).splitlines():
                if line.startswith("Expected Number of Columns: "):
                    found = int(line.rpartition(" ")[2])
                    more = "more than " if found > len(self.header) else ""
                    cells = min(found, len(self.header)) if more else found
                    return "", f"the line has {more}{cells} cells and the header {len(self.header)}"
                if "unterminated quote" in line:
                    return "", "a quote does not begin or end its cell, or is never closed"
            return "", f"the line cannot be parsed ({first_line(error)})"
        for row in rows:
            for column, good, text in zip(rules, row[: len(rules)], row[len(rules) :], strict=True):
                if not good and text is None:
                    return column, "the cell is empty"
                if not good:
                    shown = text if len(text) <= 60 else text[:60] + "..."
                    return column, f"{shown!r} is not {self.kinds[column].name}"
        return "", "a quote is opened and never closed"
