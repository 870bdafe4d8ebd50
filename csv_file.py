"""One CSV file of the H&M data: its columns, the rules they keep, and where a line breaks one."""

import csv
import datetime
import gzip
import os
import re
import zlib
from dataclasses import dataclass

import duckdb

from engine import first_line, identifier, literal, path_literal
from lineage import file_identity


@dataclass(frozen=True)
class Kind:
    """What the text of a needed cell must look like, and the type that it becomes.

    DuckDB holds every row against the pattern and casts it; Python asks the same of one cell only
    after DuckDB has refused the file, to find the line to show.
    """

    name: str  # for the error: '<text>' is not <name>
    sql_type: str
    pattern: str | None = None  # a regular expression for the whole text; None: any text

    def accepts(self, text):
        if self.pattern is not None and re.fullmatch(self.pattern, text) is None:
            return False
        if self.sql_type == "date":
            try:
                datetime.date.fromisoformat(text)
            except ValueError:
                return False
        return True


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
KEYS = {"articles": "article_id", "customers": "customer_id"}
# The published data has nulls here, and they mean something; everywhere else an empty cell is damage.
NULLABLE = {"FN", "Active", "club_member_status", "fashion_news_frequency", "age", "postal_code"}


class DatasetError(Exception):
    """Why no dataset was written: one sentence that names the place, the value and the cure."""


def find_csv(data_dir, name):
    """The path of NAME.csv or NAME.csv.gz in `data_dir`."""
    found = [path for end in (".csv", ".csv.gz") if (path := data_dir / (name + end)).is_file()]
    if not found:
        raise DatasetError(
            f"{name}.csv (or {name}.csv.gz) is missing in {data_dir}: put Kaggle's three files there,"
            " or name their folder with --data-dir."
        )
    if len(found) == 2:
        raise DatasetError(f"{data_dir} holds both {name}.csv and {name}.csv.gz: remove one of the two.")
    return found[0]


def open_text(path):
    """The CSV file's text. Bytes that are no UTF-8 come as lone surrogates, so that a line can still be shown."""
    csv.field_size_limit(LONGEST_LINE)
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")


def line_end(text):
    return text[len(text.rstrip("\r\n")) :]


def is_utf_8(text):
    return not any("\ud800" <= character <= "\udfff" for character in text)


def read_header(path, needed):
    """The column names of the CSV file, in its order."""
    with open_text(path) as lines:
        try:
            header = next(csv.reader(lines), None)
        except (csv.Error, EOFError, OSError, zlib.error) as error:
            raise DatasetError(f"{path} cannot be read ({error}): download it again.") from error
    if not header:
        raise DatasetError(f"{path} is empty: download it again.")
    if not is_utf_8("".join(header)):
        raise DatasetError(f"{path}, line 1: the header holds bytes that are no UTF-8 text: download the file again.")
    for column in needed:
        if column not in header:
            raise DatasetError(
                f"{path}, line 1: column {column} is missing in the header {','.join(header)!r}: it must be there once."
            )
    names = [column.casefold() for column in header]  # to DuckDB, price and Price are one column
    for column in header:
        if column == "" or names.count(column.casefold()) > 1:
            state = "has no name" if column == "" else "stands twice"
            raise DatasetError(f"{path}, line 1: column {column!r} {state} in the header: give it a name of its own.")
    return header


def ends_with_newline(path):
    if path.suffix != ".gz":
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    last = b""
    try:
        with gzip.open(path, "rb") as file:
            while block := file.read(1 << 20):
                last = block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{path} is cut off or no gzip file ({error}): download it again.") from error
    return last.endswith(b"\n")


def read_rows(path, header, kinds):
    """Every row of the CSV file as (line number, text, column, reason), reason None for a good row.

    Slow and exact. It is asked only once DuckDB has refused the file, to name what is wrong.
    """
    with open_text(path) as file:
        consumed = []

        def remembered():
            for line in file:
                consumed.append(line)
                yield line

        rows = csv.reader(remembered(), strict=True)
        next(rows)
        header_end = line_end(consumed[-1])
        while True:
            consumed.clear()
            line_number = rows.line_num + 1
            column = reason = None
            try:
                row = next(rows)
            except StopIteration:
                return
            except (csv.Error, EOFError, OSError, zlib.error) as error:
                reason = f"the line cannot be parsed ({error})"
            else:
                column, reason = find_fault(row, header, kinds)
            text = "".join(consumed)
            if line_end(text) != header_end:  # DuckDB cannot even skip such a line
                raise DatasetError(
                    f"{path}, line {line_number}: the line ends in {line_end(text)!r} and the header in"
                    f" {header_end!r}: let all lines of the file end alike."
                )
            if reason is None and not is_utf_8(text):
                reason = "the line holds bytes that are no UTF-8 text"
            yield line_number, text, column, reason


def find_fault(row, header, kinds):
    """(column, reason) of the first cell that breaks a rule, (None, None) for a good row."""
    if len(row) != len(header):
        return None, f"the line has {len(row)} cells and the header {len(header)}"
    for column, text in zip(header, row, strict=True):
        if column not in kinds or (text == "" and column in NULLABLE):
            continue
        if text == "":
            return column, "the cell is empty"
        if not kinds[column].accepts(text):
            shown = text if len(text) <= 60 else text[:60] + "..."
            return column, f"{shown!r} is not {kinds[column].name}"
    return None, None


class CsvFile:
    """One CSV file as DuckDB reads it: its columns, its rules and its rows."""

    def __init__(self, data_dir, name):
        self.name, self.kinds = name, COLUMNS[name]
        self.path = find_csv(data_dir, name)
        self._state = self._state_on_disk()
        self.header = read_header(self.path, self.kinds)
        if not ends_with_newline(self.path):
            raise DatasetError(
                f"{self.path} does not end with a newline, so its last line may be cut off: download the file again."
            )

    def _state_on_disk(self):
        state = self.path.stat()
        return state.st_ino, state.st_size, state.st_mtime_ns

    def check_unchanged(self):
        """Refuse a file that was replaced or written to since it was opened: its content hash is of another one."""
        if self._state_on_disk() != self._state:
            raise DatasetError(f"{self.path} was changed while it was read: start again once it is whole.")

    def identity(self):
        """The file's content hash; counts its lines on the way, where a line is surely a row."""
        lines, quoted = 0, False

        def count(block):
            nonlocal lines, quoted
            lines += block.count(b"\n")
            quoted = quoted or b'"' in block

        identity = file_identity(self.path, count)
        # Inside quotes a newline is text, and a .gz file shows none: DuckDB's count stands alone then.
        self.lines = lines if not quoted and self.path.suffix != ".gz" else None
        return identity

    def scan(self, lenient):
        """The read_csv call, every cell as text: nothing is guessed; `lenient` skips what does not parse."""
        types = ", ".join(f"{literal(column)}: 'varchar'" for column in self.header)
        compression = "gzip" if self.path.suffix == ".gz" else "none"
        return (
            f"read_csv({path_literal(self.path)}, auto_detect = false, header = true, delim = ',', quote = '\"',"
            f" escape = '\"', nullstr = '', max_line_size = {LONGEST_LINE}, buffer_size = {READ_BUFFER},"
            f" compression = '{compression}',"
            f" ignore_errors = {lenient}, columns = {{{types}}})"
        )

    def valid(self):
        """SQL: does the row meet every rule? Never null."""
        conditions = []
        for column, kind in self.kinds.items():
            cell = identifier(column)
            conditions.append(f"{cell} is not null" if column not in NULLABLE else "true")
            if kind.pattern is not None:
                conditions.append(f"coalesce(regexp_full_match({cell}, {literal(kind.pattern)}), true)")
            if kind.sql_type != "varchar":
                conditions.append(f"({cell} is null or try_cast({cell} as {kind.sql_type}) is not null)")
        return " and ".join(conditions)

    def columns(self):
        """SQL: the columns of the parquet file."""
        return ", ".join(
            f"try_cast({identifier(column)} as {self.kinds[column].sql_type}) as {identifier(column)}"
            if column in self.kinds
            else identifier(column)
            for column in self.header
        )

    def reject_bad_rows(self, con, refusal, rejects, max_bad_rows):
        """Append (file, line, column, reason, text) of each bad row to `rejects`.

        More than `max_bad_rows` in all is an error. Returns the number of good rows. Python finds
        the lines and DuckDB drops the rows: they have to agree on how many.
        """
        good = bad = 0
        for line_number, text, column, reason in read_rows(self.path, self.header, self.kinds):
            if reason is None:
                good += 1
                continue
            bad += 1
            rejects.append((self.path.name, line_number, column or "", reason, text.rstrip("\r\n")))
            if len(rejects) > max_bad_rows:
                place = f"{self.path}, line {line_number}" + (f", column {column}" if column else "")
                more = f" (bad row {len(rejects)} of the {max_bad_rows} allowed)" if max_bad_rows else ""
                raise DatasetError(
                    f"{place}: {reason}{more}; mend the file, or raise --max-bad-rows to put such lines aside."
                )
        try:
            ((agreed,),) = con.sql(f"select count(*) from {self.scan(True)} where {self.valid()}").fetchall()
        except duckdb.Error:
            agreed = None
        if bad == 0 or agreed != good:
            raise DatasetError(
                f"{self.path} has a fault whose line cannot be told ({first_line(refusal)}): download it again."
            )
        return good
