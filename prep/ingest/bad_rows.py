"""Where DuckDB has refused a CSV file: which line is it, and what is wrong with it?

DuckDB is asked about fewer and fewer lines, so what is called bad is what it will not read.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import duckdb

from prep.duck import identifier
from prep.errors import PrepError, first_line
from prep.ingest.csv_file import LONGEST_LINE, CsvFile, open_bytes
from prep.ingest.rules import wanted

LINES_AT_ONCE = 100_000


class Reject(NamedTuple):
    """A row put aside, as it stands in rejects.csv."""

    file: str
    line: int
    column: str
    reason: str
    text: str


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


class BadRows:
    """Puts the bad rows of one CSV file aside; `folder` is for temporary files."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, source: CsvFile, folder: Path, rejects: list[Reject], allowed: int
    ) -> None:
        self._con, self._source, self._rejects, self._allowed = con, source, rejects, allowed
        self._piece, self._good = folder / "piece.csv", folder / "without_bad_rows.csv"

    def put_aside(self) -> tuple[Path, int]:
        """Write the file again without its bad rows, and append these to `rejects`.

        More than `allowed` in all is an error that shows the first one too many. Returns the new file
        and the number of its lines after the header.
        """
        number, kept = 1 + self._source.first.count(b"\n"), 0
        with open_bytes(self._source.path) as file, self._good.open("wb") as target:
            file.seek(len(self._source.first))
            target.write(self._source.first)
            rows = records(file)
            while chunk := self._chunk(rows):
                for record, is_good in self._judge(chunk):
                    if is_good:
                        target.write(record)
                        kept += record.count(b"\n")
                    else:
                        self._reject(record, number)
                    number += record.count(b"\n")
        return self._good, kept

    @staticmethod
    def _chunk(rows: Iterator[bytes]) -> list[bytes]:
        chunk, lines, size = [], 0, 0
        for record in rows:
            chunk.append(record)
            lines, size = lines + record.count(b"\n"), size + len(record)
            if lines >= LINES_AT_ONCE or size >= 4 * LONGEST_LINE:
                break
        return chunk

    def _judge(self, chunk: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        """Yield (records, True) that are good and (record, False) that is not, in their order."""
        if self._is_good(b"".join(chunk)):
            yield b"".join(chunk), True
        elif len(chunk) > 1:
            half = len(chunk) // 2
            yield from self._judge(chunk[:half])
            yield from self._judge(chunk[half:])
        else:
            lines = [line + b"\n" for line in chunk[0].split(b"\n")[:-1]]
            rest = list(records(lines[1:]))
            first = bool(rest) and self._is_good(lines[0])
            # A quote that opens nothing, or is never closed, spoils its own line, not the good ones behind it.
            if first or any(self._is_good(record) for record in {*rest[:1], *rest[-1:]}):
                yield lines[0], first
                yield from self._judge(rest)
            else:
                yield chunk[0], False

    def _is_good(self, text: bytes) -> bool:
        """Does DuckDB read these lines, all of them, and keep they every rule?"""
        source = self._source
        self._piece.write_bytes(source.first + text)
        query = f"select count(*) + {source.line_breaks()}, count(*) filter (not {source.valid()})"
        try:
            ((lines, bad),) = self._con.sql(f"{query} from {source.scan(self._piece, parallel=False)}").fetchall()
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error:
            return False
        return bad == 0 and lines == text.count(b"\n")

    def _reject(self, record: bytes, number: int) -> None:
        path, body = self._source.path, record.rstrip(b"\r\n")
        header_end, end = ("\r\n" if line.endswith(b"\r\n") else "\n" for line in (self._source.first, record))
        if b"\r" in body and b'"' not in body:
            end = "\r"
        if body and end != header_end:
            raise PrepError(
                f"{path}, line {number}: the line ends in {end!r} and the header in {header_end!r}:"
                " let all lines of the file end alike."
            )
        column, reason = self._fault(record)
        self._rejects.append(Reject(path.name, number, column, reason, body.decode(errors="surrogateescape")))
        if len(self._rejects) > self._allowed:
            place = f"{path}, line {number}" + (f", column {column}" if column else "")
            more = f" (bad row {len(self._rejects)} of the {self._allowed} allowed)" if self._allowed else ""
            raise PrepError(f"{place}: {reason}{more}; mend the file, or raise --max-bad-rows to put such lines aside.")

    def _fault(self, record: bytes) -> tuple[str, str]:
        """(column, reason): what is wrong with this one record. The column is '' when it is the whole line."""
        if not record.strip(b"\r\n"):
            return "", "the line is empty"
        try:
            record.decode()
        except UnicodeDecodeError:
            return "", "the line holds bytes that are no UTF-8 text"
        if len(record) > LONGEST_LINE:
            return "", f"the line has {len(record):,} bytes, more than {LONGEST_LINE:,}"
        source = self._source
        self._piece.write_bytes(source.first + record)
        rules = source.rules()
        cells = ", ".join([*rules.values(), *(f"left({identifier(column)}, 61)" for column in rules)])
        try:
            rows = self._con.sql(f"select {cells} from {source.scan(self._piece, parallel=False)}").fetchall()
        except duckdb.Error as error:
            return "", self._parser_fault(error)
        for row in rows:
            for column, good, text in zip(rules, row[: len(rules)], row[len(rules) :], strict=True):
                if not good and text is None:
                    return column, "the cell is empty"
                if not good:
                    shown = text if len(text) <= 60 else text[:60] + "..."
                    return column, f"{shown!r} is not {wanted(source.known[column])}"
        return "", "a quote is opened and never closed"

    def _parser_fault(self, error: duckdb.Error) -> str:
        """What DuckDB's parser says, in fewer words."""
        columns = len(self._source.header)
        for line in str(error).splitlines():
            if line.startswith("Expected Number of Columns: "):
                found = int(line.rpartition(" ")[2])
                more = "more than " if found > columns else ""
                return f"the line has {more}{min(found, columns)} cells and the header {columns}"
            if "unterminated quote" in line:
                return "a quote does not begin or end its cell, or is never closed"
        return f"the line cannot be parsed ({first_line(error)})"
