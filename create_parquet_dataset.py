"""Stage 1: the three CSV files of the H&M data become three parquet files.

    python create_parquet_dataset.py 0.25

reads articles.csv, customers.csv and transactions_train.csv (or .csv.gz) and writes the parquet
files articles, customers and transactions_train beside them, with a quarter of the customers'
purchases. DuckDB streams the rows; the columns and their order stay those of the CSV files.
"""

import argparse
import csv
import datetime
import gzip
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb

from engine import connect, identifier, literal, memory_limit, path_literal, rows_scanned
from lineage import FORMAT, STAGE_1, LineageError, file_identity, hold, write_record


@dataclass(frozen=True)
class Kind:
    """What a cell of a needed column may hold.

    The SQL is what DuckDB enforces on every row; `accepts` says the same of one cell's text and is
    asked only after DuckDB has refused the file, to find the line to show.
    """

    read_as: str  # the type that DuckDB parses the text as
    write_as: str  # the type in the parquet file
    rule: str  # SQL condition on the parsed cell, {} is the column
    accepts: object  # text -> bool
    name: str  # for the error: '<text>' is not <name>


def _is_date(text):
    try:
        return bool(datetime.datetime.strptime(text, "%Y-%m-%d"))
    except ValueError:
        return False


def _is_number(text):
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


TEXT = Kind("varchar", "varchar", "{} <> ''", lambda text: text != "", "a text")
ARTICLE_ID = Kind(
    "varchar",
    "varchar",
    "regexp_full_match({}, '[0-9]{{10}}')",
    lambda text: re.fullmatch("[0-9]{10}", text) is not None,
    "an article_id of 10 digits",
)
CODE = Kind(
    "varchar",
    "varchar",
    "regexp_full_match({}, '[0-9]{{1,18}}')",
    lambda text: re.fullmatch("[0-9]{1,18}", text) is not None,
    "a code of digits",
)
DATE = Kind("date", "date", "isfinite({})", _is_date, "a date like 2020-09-08")
NUMBER = Kind("double", "double", "isfinite({})", _is_number, "a number")
WHOLE = Kind(
    "double",
    "bigint",
    "{0} = floor({0}) and abs({0}) < 1e15",
    lambda text: _is_number(text) and abs(float(text)) < 1e15 and float(text).is_integer(),
    "a whole number",
)

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
            f"{name}.csv (or {name}.csv.gz) is missing in {data_dir}: put Kaggle's three files there, or name their folder with --data-dir."
        )
    if len(found) == 2:
        raise DatasetError(f"{data_dir} holds both {name}.csv and {name}.csv.gz: remove one of the two.")
    return found[0]


def open_text(path):
    """The CSV file's text. Bytes that are no UTF-8 come as lone surrogates, so that a line can still be shown."""
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")


def read_header(path, needed):
    """The column names of the CSV file, in its order."""
    with open_text(path) as lines:
        try:
            header = next(csv.reader(lines), None)
        except (csv.Error, EOFError, OSError) as error:
            raise DatasetError(f"{path} cannot be read ({error}): download it again.") from error
    if not header:
        raise DatasetError(f"{path} is empty: download it again.")
    for column in needed:
        if header.count(column) != 1:
            state = "is missing" if column not in header else "stands twice"
            raise DatasetError(f"{path}, line 1: column {column} {state} in the header {','.join(header)!r}: the first line must name it once.")
    twice = next((column for column in header if header.count(column) > 1), None)
    if twice is not None:
        raise DatasetError(f"{path}, line 1: column {twice!r} stands twice in the header: rename one of the two.")
    return header


def ends_with_newline(path):
    if path.suffix != ".gz":
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    block = last = b""
    with gzip.open(path, "rb") as file:
        while block := file.read(1 << 20):
            last = block
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
        while True:
            consumed.clear()
            line_number = rows.line_num + 1
            column = reason = None
            try:
                row = next(rows)
            except StopIteration:
                return
            except (csv.Error, EOFError, OSError) as error:
                reason = f"the line cannot be parsed ({error})"
            else:
                column, reason = find_fault(row, header, kinds)
            text = "".join(consumed)
            if reason is None and ("\0" in text or any("\ud800" <= c <= "\udfff" for c in text)):
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
        self.header = read_header(self.path, self.kinds)
        if not ends_with_newline(self.path):
            raise DatasetError(
                f"{self.path} does not end with a newline, so its last line may be cut off: download the file again."
            )

    def identity(self):
        """The file's content hash; counts its lines on the way, where a line is surely a row."""
        lines = quotes = 0

        def count(block):
            nonlocal lines, quotes
            lines += block.count(b"\n")
            quotes += block.count(b'"')

        identity = file_identity(self.path, count)
        # Inside quotes a newline is text, and a .gz file shows none: DuckDB's count stands alone then.
        self.lines = lines if quotes == 0 and self.path.suffix != ".gz" else None
        return identity

    def scan(self, lenient, as_text=()):
        """The read_csv call. Everything is said and nothing guessed; `lenient` skips what does not parse."""
        types = ", ".join(
            f"{literal(column)}: {literal(self._read_as(column, as_text))}" for column in self.header
        )
        return (
            f"read_csv({path_literal(self.path)}, auto_detect = false, header = true, delim = ',', quote = '\"',"
            f" escape = '\"', dateformat = '%Y-%m-%d', nullstr = '', max_line_size = 8000000,"
            f" compression = '{'gzip' if self.path.suffix == '.gz' else 'none'}', ignore_errors = {lenient}, columns = {{{types}}})"
        )

    def _read_as(self, column, as_text):
        known = self.kinds.get(column)
        return known.read_as if known and column not in as_text else "varchar"

    def _parsed(self, column):
        return f"try_cast({identifier(column)} as {self.kinds[column].read_as})"

    def valid(self):
        """SQL: does the row meet every rule? Never null."""
        conditions = []
        for column, kind in self.kinds.items():
            rule = f"coalesce({kind.rule.format(self._parsed(column))}, false)"
            conditions.append(f"({identifier(column)} is null or {rule})" if column in NULLABLE else rule)
        return " and ".join(conditions)

    def columns(self):
        """SQL: the columns of the parquet file."""
        return ", ".join(
            f"cast({self._parsed(column)} as {self.kinds[column].write_as}) as {identifier(column)}"
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
        (agreed,) = con.sql(f"select count(*) from {self.scan(True)} where {self.valid()}").fetchall()[0]
        if bad == 0 or agreed != good:
            raise DatasetError(
                f"{self.path} has a fault whose line cannot be told ({first_line(refusal)}): download it again."
            )
        return good


def keep_condition(fraction, by, seed):
    """SQL: is this purchase in the sample? A stable hash, so 0.1 lies inside 0.25 for the same seed.

    md5 as hex text is below the fraction of the hash space; the engine's own hash and random
    generator change from version to version. By row, identical rows stay together: they are units
    of one purchase.
    """
    if fraction == 1:
        return "true"
    key = ["customer_id"] if by == "customer" else COLUMNS["transactions_train"]
    text = " || ':' || ".join([literal(seed), *key])
    return f"md5({text}) < '{int(fraction * 2**64):016x}'"


def write_parquet(con, source, target, keep, as_text, metadata, rejects, max_bad_rows):
    """Write one CSV file as parquet.

    Returns {read, kept, sampled_out, rejected}, the numbers of rows as counted by the very query that
    writes; read = kept + sampled_out + rejected.
    """
    metadata_sql = ", ".join(f"{identifier(key)}: {literal(value)}" for key, value in metadata.items())
    valid = source.valid()

    def copy(lenient):
        checked = f"({valid}) and {keep}" if lenient else f"case when {valid} then {keep} else error('bad row') end"
        ((kept,),) = con.execute(
            f"copy (select {source.columns()} from {source.scan(lenient, as_text)} where {checked}) to {literal(target)}"
            f" (format parquet, compression zstd, use_tmp_file false, kv_metadata {{{metadata_sql}}})"
        ).fetchall()
        return kept

    known = len(rejects)
    try:
        kept = copy(lenient=False)
        good = rows_scanned(con)
        if source.lines is not None and good != source.lines - 1:
            raise duckdb.DataError(f"{source.lines - 1:,} lines after the header and {good:,} rows")
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise DatasetError(f"{target} could not be written ({first_line(error)}).") from error
    except duckdb.Error as error:
        good = source.reject_bad_rows(con, error, rejects, max_bad_rows)
        kept = copy(lenient=True)
    rejected = len(rejects) - known
    if good == 0:
        raise DatasetError(f"{source.path} has a header and no good row: download it again.")
    if kept > good or (keep == "true" and kept != good):
        raise DatasetError(f"{target} has {kept:,} rows of {good:,} good ones: report this as a bug.")
    return {"read": good + rejected, "kept": kept, "sampled_out": good - kept, "rejected": rejected}


def first_line(error):
    return str(error).strip().splitlines()[0]


def check_key(con, table, key, path):
    """An id that stands twice in its file would double purchases when stage 2 joins."""
    twice = con.sql(
        f"select {key}, count(*) from {read_parquet(table)} group by all having count(*) > 1 order by all limit 1"
    ).fetchall()
    for value, count in twice:
        raise DatasetError(f"{path}: {key} {value!r} stands {count} times in the file: it must be there once.")


def count_unknown(con, tables):
    """The kept purchases whose customer, article, or either, is not in its file."""
    purchases = read_parquet(tables["transactions_train"])
    unknown = {}
    for name, key in KEYS.items():
        (unknown[name],) = con.sql(
            f"select coalesce(sum(n), 0)::bigint from (select {key}, count(*) as n from {purchases} group by all)"
            f" anti join {read_parquet(tables[name])} using ({key})"
        ).fetchall()[0]
    unknown["either"] = sum(unknown.values())
    if all(unknown.values()):
        known = " ".join(f"semi join {read_parquet(tables[name])} using ({key})" for name, key in KEYS.items())
        (joined,) = con.sql(f"select count(*) from {purchases} {known}").fetchall()[0]
        unknown["either"] = con.sql(f"select count(*) from {purchases}").fetchall()[0][0] - joined
    return unknown


def read_parquet(path):
    return f"read_parquet({path_literal(path)})"


def create_parquet_dataset(data_dir, fraction=1.0, by="customer", seed=0, max_bad_rows=0, limit=None):
    """Write articles, customers and transactions_train into `data_dir`, all three or none.

    Prints the rows read and kept of each file, and leaves the same as create_parquet_dataset.json.
    Raises DatasetError when the input is not as the README describes it, LineageError when another
    run writes there; the previous output then stays as it was.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise DatasetError(f"the folder {data_dir} is missing: name the one of Kaggle's three files with --data-dir.")
    held = hold(data_dir)
    made_with = {"fraction": fraction, "by": by, "seed": seed, "max_bad_rows": max_bad_rows}
    tables = {name: data_dir / f"{name}.tmp" for name in COLUMNS}
    rejected_to, rejects = data_dir / "rejects.csv", []
    con = None
    try:
        sources = [CsvFile(data_dir, name) for name in COLUMNS]
        inputs = [source.identity() for source in sources]
        record = made_with | {"inputs": inputs, "rows": {}}
        marks = {key: made_with[key] for key in ("fraction", "by", "seed")}
        marks["lineage"] = json.dumps({"format": FORMAT, "made_by": STAGE_1.removesuffix(".json"), **made_with, "inputs": inputs})
        con = connect(limit, spill_to=data_dir / ".spill.tmp")
        con.execute("set enable_profiling = 'no_output'")
        con.execute("set profiling_coverage = 'ALL'")
        report = []
        for source in sources:
            print(f"reading {source.path} ({source.path.stat().st_size:,} bytes)", file=sys.stderr)
            started = time.monotonic()
            sampled = source.name == "transactions_train"
            keep = keep_condition(fraction, by, seed) if sampled else "true"
            as_text = ("t_dat", "price", "sales_channel_id") if sampled and by == "row" else ()
            rows = write_parquet(con, source, tables[source.name], keep, as_text, marks, rejects, max_bad_rows)
            if rows["kept"] == 0:
                raise DatasetError(
                    f"no purchase of the {rows['read']:,} in {source.path} is left at fraction {fraction}: take a larger fraction or another --seed."
                )
            record["rows"][source.name] = rows
            report.append((source.name, rows, tables[source.name].stat().st_size, time.monotonic() - started))
            if source.name in KEYS:
                check_key(con, tables[source.name], KEYS[source.name], source.path)
        record["unknown"] = count_unknown(con, tables)
        record["outputs"] = [file_identity(path) | {"name": name} for name, path in tables.items()]
        for name, table in tables.items():
            os.replace(table, data_dir / name)
        write_rejects(rejected_to, rejects, max_bad_rows)
        write_record(data_dir / STAGE_1, record)
    except OSError as error:
        raise DatasetError(f"{error.filename or data_dir} could not be read or written ({error.strerror}).") from error
    finally:
        if con is not None:
            con.close()
        for table in tables.values():
            table.unlink(missing_ok=True)
        os.close(held)
    print_report(report, record["unknown"])


def write_rejects(path, rejects, max_bad_rows):
    """Write the bad rows; without any, a list that an earlier run left is taken away."""
    if not rejects:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix(".csv.tmp")
    with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "column", "reason", "text"])
        writer.writerows(rejects)
    os.replace(temporary, path)


def print_report(report, unknown):
    print(f"{'file':<19}{'rows read':>12}{'rows kept':>12}{'sampled out':>13}{'rejected':>10}{'bytes':>15}{'seconds':>9}")
    for name, rows, size, seconds in report:
        print(
            f"{name:<19}{rows['read']:>12,}{rows['kept']:>12,}{rows['sampled_out']:>13,}{rows['rejected']:>10,}{size:>15,}{seconds:>9.1f}"
        )
    for name in KEYS:
        if unknown[name]:
            print(f"{unknown[name]:,} of the kept purchases are of {name} that are not in the {name} file: dbt's join leaves them out.")


def parse_fraction(text):
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]: 0.25 keeps a quarter of the customers, 1 keeps all.")
    return value


def parse_natural(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative: take 0 or more.")
    return value


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="create_parquet_dataset.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "fraction", metavar="FRACTION", nargs="?", type=parse_fraction, default=1.0,
        help="part of the data to keep, above 0 and up to 1 (default: 1, all of it)",
    )  # fmt: skip
    parser.add_argument(
        "--by", choices=("customer", "row"), default="customer",
        help="what the fraction counts: customers with their whole history (default), or single purchases",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=parse_natural, default=0,
        help="another seed, another sample; the same seed always the same one (default: 0)",
    )  # fmt: skip
    parser.add_argument("--data-dir", type=Path, default=Path("."), help="folder of the CSV files and of the result (default: here)")
    parser.add_argument("--memory-limit", default=None, help=f"memory for DuckDB before it spills to disk (default: MEMORY_LIMIT of the environment, {memory_limit()})")
    parser.add_argument(
        "--max-bad-rows", metavar="N", type=parse_natural, default=0,
        help="put up to N lines that break a rule aside in rejects.csv instead of stopping (default: 0)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    try:
        create_parquet_dataset(args.data_dir, args.fraction, args.by, args.seed, args.max_bad_rows, args.memory_limit)
    except (DatasetError, LineageError) as error:
        print(f"create_parquet_dataset.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
