"""Stage 1: the three CSV files of the H&M data become three parquet files.

    python create_parquet_dataset.py 0.25

reads articles.csv, customers.csv and transactions_train.csv (or .csv.gz) and writes the parquet
files articles, customers and transactions_train beside them, with a quarter of the customers'
purchases. DuckDB streams the rows; the columns and their order stay those of the CSV files.
"""

import argparse
import csv
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import duckdb

from csv_file import COLUMNS, KEYS, CsvFile, DatasetError, Reject
from engine import MemoryLimitError, connect, first_line, literal, memory_limit, rows_scanned, scan
from lineage import (
    FORMAT,
    STAGE_1,
    LineageError,
    check_targets,
    file_identity,
    hold,
    new_workspace,
    publish,
    remove_workspace,
    uninterrupted,
)
from table_writer import ROW_GROUP_ROWS, TableWriter

# Fewer purchases than this share with a known article, or customer, and the files hardly belong together.
LEAST_KNOWN = 0.1


def keep_condition(fraction: float, by: str, seed: int) -> str:
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


def write_parquet(
    con: duckdb.DuckDBPyConnection,
    source: CsvFile,
    target: Path,
    keep: str,
    metadata: dict[str, str],
    rejects: list[Reject],
    max_bad_rows: int,
) -> dict[str, int]:
    """Write one CSV file as parquet.

    Returns {read, kept, sampled_out, rejected}, numbers of rows; read = kept + sampled_out + rejected.
    Every line after the header is accounted for: it is a row, or a line break inside a cell, or rejected.
    """

    def write(path: Path | None, lines: int, parallel: bool) -> tuple[int, int]:
        checked = f"case when {source.valid()} then {keep} else error('bad row') end"
        scan_csv = source.scan(path, parallel)
        batches = con.sql(f"select {source.columns()} from {scan_csv} where {checked}").to_arrow_reader(ROW_GROUP_ROWS)
        with TableWriter(target, batches.schema.with_metadata(metadata)) as writer:
            for batch in batches:
                writer.write(batch)
        good = rows_scanned(con)
        if good != lines:  # read once more for the line breaks in its cells
            breaks = con.sql(f"select {source.line_breaks()} from {scan_csv}").fetchall()[0][0] if source.quoted else 0
            if good + breaks != lines:
                raise duckdb.DataError(f"{lines:,} lines after the header and {good:,} rows")
        return good, writer.rows

    def attempt(path: Path | None, lines: int) -> tuple[int, int]:
        try:
            return write(path, lines, parallel=True)
        except (duckdb.Error, OSError) as error:
            if "not a GZIP stream" in str(error):  # zeros behind the end, which Python's gzip passes over
                raise DatasetError(
                    f"{source.path} holds bytes after its gzip data: decompress it and compress it again."
                ) from error
            check_the_data_is_at_fault(error)
            if not source.quoted:
                raise
            return write(path, lines, parallel=False)  # DuckDB's threads stumble over line breaks in quotes

    known = len(rejects)
    try:
        good, kept = attempt(None, source.lines)
    except (duckdb.Error, OSError) as error:
        check_the_data_is_at_fault(error)
        without = target.with_name("without_bad_rows.csv")
        lines = source.put_bad_rows_aside(con, without, rejects, max_bad_rows)
        if len(rejects) == known:
            raise DatasetError(
                f"{source.path} has a fault whose line cannot be told ({first_line(error)}): download it again."
            ) from error
        good, kept = attempt(without, lines)
        without.unlink()
    rejected = len(rejects) - known
    if good == 0:
        raise DatasetError(f"{source.path} has a header and no good row: download it again.")
    return {"read": good + rejected, "kept": kept, "sampled_out": good - kept, "rejected": rejected}


def check_the_data_is_at_fault(error: Exception) -> None:
    """Raise what the machine is to blame for: a full disk, too little memory."""
    # What DuckDB says while its rows are read comes as an OSError that has no number.
    if isinstance(error, duckdb.OperationalError) or getattr(error, "errno", None):
        raise error
    if str(error).startswith("Out of Memory"):
        raise error


def check_key(con: duckdb.DuckDBPyConnection, table: Path, key: str, path: Path) -> None:
    """An id that stands twice in its file would double purchases when stage 2 joins."""
    twice = con.sql(
        f"select {key}, count(*) from {scan(table)} group by all having count(*) > 1 order by all limit 1"
    ).fetchall()
    for value, count in twice:
        raise DatasetError(f"{path}: {key} {value!r} stands {count} times in the file: it must be there once.")


def count_unknown(con: duckdb.DuckDBPyConnection, tables: dict[str, Path]) -> dict[str, int]:
    """The kept purchases whose customer, article, or either, is not in its file."""
    purchases = scan(tables["transactions_train"])
    unknown = {}
    for name, key in KEYS.items():
        (unknown[name],) = con.sql(
            f"select coalesce(sum(n), 0)::bigint from (select {key}, count(*) as n from {purchases} group by all)"
            f" anti join {scan(tables[name])} using ({key})"
        ).fetchall()[0]
    unknown["either"] = sum(unknown.values())
    if all(unknown.values()):
        known = " and ".join(f"{key} in (select {key} from {scan(tables[name])})" for name, key in KEYS.items())
        (joined,) = con.sql(f"select count(*) from {purchases} where {known}").fetchall()[0]
        unknown["either"] = con.sql(f"select count(*) from {purchases}").fetchall()[0][0] - joined
    return unknown


def check_the_files_join(
    con: duckdb.DuckDBPyConnection, tables: dict[str, Path], unknown: dict[str, int], kept: int
) -> None:
    """Refuse files whose ids are written in two ways: stage 2 would join nearly nothing."""
    for name, key in KEYS.items():
        if unknown[name] <= kept * (1 - LEAST_KNOWN):
            continue
        of_purchases, of_file = (
            [value for (value,) in con.sql(f"select distinct {key} from {scan(table)} order by all limit 2").fetchall()]
            for table in (tables["transactions_train"], tables[name])
        )
        raise DatasetError(
            f"{unknown[name]:,} of {kept:,} purchases have a {key} that is not in the {name} file, so the files do not"
            f" belong together or write their ids in two ways (at least {LEAST_KNOWN:.0%} must be known):"
            f" transactions_train has {of_purchases}, {name} has {of_file}."
        )


def create_parquet_dataset(
    data_dir: str | Path,
    fraction: float = 1.0,
    by: str = "customer",
    seed: int = 0,
    max_bad_rows: int = 0,
    limit: str | None = None,
) -> None:
    """Write articles, customers and transactions_train into `data_dir`, all three or none.

    Prints the rows read and kept of each file, and leaves the same as create_parquet_dataset.json.
    Raises DatasetError when the input is not as docs/how-it-is-built.md describes it, LineageError when another
    run writes there, MemoryLimitError; the previous output then stays as it was.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise DatasetError(
            f"the folder {data_dir.resolve()} is missing: name the one of Kaggle's three files with --data-dir."
        )
    limit = memory_limit(limit)
    held = hold(data_dir)
    con = None
    try:
        check_targets(data_dir / name for name in (*COLUMNS, "rejects.csv", STAGE_1))
        workspace = new_workspace(data_dir)
        con = connect(limit, spill_to=workspace / "spill")
        made_with = {"fraction": fraction, "by": by, "seed": seed, "max_bad_rows": max_bad_rows}
        report, unknown = write_tables(con, data_dir, workspace, made_with)
    except duckdb.Error as error:
        raise DatasetError(f"DuckDB gave up in {data_dir} ({first_line(error)}).") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DatasetError(f"{error.filename or data_dir} could not be read or written ({reason}).") from error
    finally:
        with uninterrupted():
            if con is not None:
                con.close()
            remove_workspace(data_dir)
            os.close(held)
    print_report(report, unknown)


def write_tables(
    con: duckdb.DuckDBPyConnection, data_dir: Path, workspace: Path, made_with: dict
) -> tuple[list[tuple[str, dict[str, int], int, float]], dict[str, int]]:
    """Read the three CSV files, check and write the tables, and publish all of them."""
    sources = [CsvFile(data_dir, name) for name in COLUMNS]
    inputs = [source.identity() for source in sources]
    record = made_with | {"inputs": inputs, "rows": {}}
    marks = {key: str(made_with[key]) for key in ("fraction", "by", "seed")}
    made_by = {"format": FORMAT, "made_by": STAGE_1.removesuffix(".json")}
    marks["lineage"] = json.dumps(made_by | made_with | {"inputs": inputs})
    con.execute("set enable_profiling = 'no_output'")
    con.execute("set profiling_coverage = 'ALL'")
    tables = {name: workspace / name for name in COLUMNS}
    rejects: list[Reject] = []
    report = []
    for source in sources:
        print(f"reading {source.path} ({source.path.stat().st_size:,} bytes)", file=sys.stderr)
        started = time.monotonic()
        sampled = source.name == "transactions_train"
        keep = keep_condition(made_with["fraction"], made_with["by"], made_with["seed"]) if sampled else "true"
        rows = write_parquet(con, source, tables[source.name], keep, marks, rejects, made_with["max_bad_rows"])
        source.check_unchanged()
        if rows["kept"] == 0:
            raise DatasetError(
                f"no purchase of the {rows['read']:,} in {source.path} is left at fraction {made_with['fraction']}:"
                " take a larger fraction or another --seed."
            )
        record["rows"][source.name] = rows
        report.append((source.name, rows, tables[source.name].stat().st_size, time.monotonic() - started))
        if source.name in KEYS:
            check_key(con, tables[source.name], KEYS[source.name], source.path)
    unknown = record["unknown"] = count_unknown(con, tables)
    check_the_files_join(con, tables, unknown, record["rows"]["transactions_train"]["kept"])
    record["outputs"] = [file_identity(path) | {"name": name} for name, path in tables.items()]
    finished = {table: data_dir / name for name, table in tables.items()}
    if rejects:
        write_rejects(workspace / "rejects.csv", rejects)
        finished[workspace / "rejects.csv"] = data_dir / "rejects.csv"
    publish(finished, data_dir / STAGE_1, record)
    if not rejects:
        (data_dir / "rejects.csv").unlink(missing_ok=True)  # of an earlier run
    return report, unknown


def write_rejects(path: Path, rejects: list[Reject]) -> None:
    """Write the bad rows as a CSV file; bytes that are no UTF-8 are shown as escapes."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "column", "reason", "text"])
        writer.writerows(rejects)


def print_report(report: list[tuple[str, dict[str, int], int, float]], unknown: dict[str, int]) -> None:
    print("file                  rows read   rows kept  sampled out  rejected          bytes  seconds")
    for name, rows, size, seconds in report:
        read, kept, sampled_out, rejected = rows.values()
        print(f"{name:<19}{read:>12,}{kept:>12,}{sampled_out:>13,}{rejected:>10,}{size:>15,}{seconds:>9.1f}")
    for name in KEYS:
        if unknown[name]:
            print(
                f"{unknown[name]:,} of the kept purchases are of {name} that are not in the {name} file:"
                " dbt's join leaves them out."
            )


def parse_fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is not in (0, 1]: 0.25 keeps a quarter of the customers, 1 keeps all."
        )
    return value


def parse_natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 40:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number from 0 on, of at most 40 digits.")
    return int(text)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="create_parquet_dataset.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
    parser.add_argument(
        "--data-dir", type=Path, default=Path("."), help="folder of the CSV files and of the result (default: here)"
    )
    parser.add_argument(
        "--memory-limit",
        help="memory for DuckDB before it spills to disk, such as 2GB (default: MEMORY_LIMIT, else 1GB)",
    )
    parser.add_argument(
        "--max-bad-rows", metavar="N", type=parse_natural, default=0,
        help="put up to N lines that break a rule aside in rejects.csv instead of stopping (default: 0)",
    )  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_arguments(argv)
    interrupted = []

    def interrupt(*_: int | FrameType | None) -> None:
        interrupted.append(True)  # DuckDB may turn the exception into one of its own
        raise KeyboardInterrupt

    if argv is None:  # as a command
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it, as it ends cat
    try:
        create_parquet_dataset(args.data_dir, args.fraction, args.by, args.seed, args.max_bad_rows, args.memory_limit)
    except BaseException as error:
        if interrupted:
            print("create_parquet_dataset.py: interrupted", file=sys.stderr)
            return 130
        if not isinstance(error, DatasetError | LineageError | MemoryLimitError):
            raise
        print(f"create_parquet_dataset.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
