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
import shutil
import sys
import time
from pathlib import Path

import duckdb

from csv_file import COLUMNS, KEYS, CsvFile, DatasetError
from engine import MemoryLimitError, connect, first_line, literal, memory_limit, rows_scanned, scan
from lineage import FORMAT, STAGE_1, LineageError, discard, file_identity, hold, publish
from table_writer import ROW_GROUP_ROWS, TableWriter


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


def write_parquet(con, source, target, keep, metadata, rejects, max_bad_rows):
    """Write one CSV file as parquet.

    Returns {read, kept, sampled_out, rejected}, numbers of rows; read = kept + sampled_out + rejected.
    Counted by the query that writes, and the rejected ones by the pass that finds them.
    """
    valid = source.valid()

    def write(lenient):
        bad_row = "error('bad row')"
        checked = f"({valid}) and {keep}" if lenient else f"case when {valid} then {keep} else {bad_row} end"
        query = f"select {source.columns()} from {source.scan(lenient)} where {checked}"
        batches = con.sql(query).to_arrow_reader(ROW_GROUP_ROWS)
        with TableWriter(target, batches.schema.with_metadata(metadata)) as writer:
            for batch in batches:
                writer.write(batch)
        return writer.rows

    known = len(rejects)
    try:
        kept = write(lenient=False)
        good = rows_scanned(con)
        if source.lines is not None and good != source.lines - 1:
            raise duckdb.DataError(f"{source.lines - 1:,} lines after the header and {good:,} rows")
    except (duckdb.Error, OSError) as error:
        # What DuckDB says while its rows are read comes as an OSError that has no number.
        if isinstance(error, duckdb.OperationalError) or getattr(error, "errno", None):
            raise
        if str(error).startswith("Out of Memory"):
            raise
        good = source.reject_bad_rows(con, error, rejects, max_bad_rows)
        kept = write(lenient=True)
    rejected = len(rejects) - known
    if good == 0:
        raise DatasetError(f"{source.path} has a header and no good row: download it again.")
    if kept > good or (keep == "true" and kept != good):
        raise DatasetError(f"{target} has {kept:,} rows of {good:,} good ones: report this as a bug.")
    return {"read": good + rejected, "kept": kept, "sampled_out": good - kept, "rejected": rejected}


def check_key(con, table, key, path):
    """An id that stands twice in its file would double purchases when stage 2 joins."""
    twice = con.sql(
        f"select {key}, count(*) from {scan(table)} group by all having count(*) > 1 order by all limit 1"
    ).fetchall()
    for value, count in twice:
        raise DatasetError(f"{path}: {key} {value!r} stands {count} times in the file: it must be there once.")


def count_unknown(con, tables):
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
    rejects_file, rejects = data_dir / "rejects.csv.tmp", []
    spill = data_dir / ".spill.tmp"
    con = None
    try:
        sources = [CsvFile(data_dir, name) for name in COLUMNS]
        inputs = [source.identity() for source in sources]
        record = made_with | {"inputs": inputs, "rows": {}}
        marks = {key: str(made_with[key]) for key in ("fraction", "by", "seed")}
        made_by = {"format": FORMAT, "made_by": STAGE_1.removesuffix(".json")}
        marks["lineage"] = json.dumps(made_by | made_with | {"inputs": inputs})
        con = connect(limit, spill_to=spill)
        con.execute("set enable_profiling = 'no_output'")
        con.execute("set profiling_coverage = 'ALL'")
        report = []
        for source in sources:
            print(f"reading {source.path} ({source.path.stat().st_size:,} bytes)", file=sys.stderr)
            started = time.monotonic()
            sampled = source.name == "transactions_train"
            keep = keep_condition(fraction, by, seed) if sampled else "true"
            rows = write_parquet(con, source, tables[source.name], keep, marks, rejects, max_bad_rows)
            source.check_unchanged()
            if rows["kept"] == 0:
                raise DatasetError(
                    f"no purchase of the {rows['read']:,} in {source.path} is left at fraction {fraction}:"
                    " take a larger fraction or another --seed."
                )
            record["rows"][source.name] = rows
            report.append((source.name, rows, tables[source.name].stat().st_size, time.monotonic() - started))
            if source.name in KEYS:
                check_key(con, tables[source.name], KEYS[source.name], source.path)
        record["unknown"] = count_unknown(con, tables)
        record["outputs"] = [file_identity(path) | {"name": name} for name, path in tables.items()]
        finished = {table: data_dir / name for name, table in tables.items()}
        if rejects:
            write_rejects(rejects_file, rejects)
            finished[rejects_file] = data_dir / "rejects.csv"
        publish(finished, data_dir / STAGE_1, record)
        if not rejects:
            (data_dir / "rejects.csv").unlink(missing_ok=True)  # of an earlier run
    except duckdb.Error as error:
        raise DatasetError(f"DuckDB gave up in {data_dir} ({first_line(error)}).") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise DatasetError(f"{error.filename or data_dir} could not be read or written ({reason}).") from error
    finally:
        if con is not None:
            con.close()
        discard(*tables.values(), rejects_file)
        shutil.rmtree(spill, ignore_errors=True)
        os.close(held)
    print_report(report, record["unknown"])


def write_rejects(path, rejects):
    """Write the bad rows as a CSV file; bytes that are no UTF-8 are shown as escapes."""
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "line", "column", "reason", "text"])
        writer.writerows(rejects)


def print_report(report, unknown):
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


def parse_fraction(text):
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text} is not in (0, 1]: 0.25 keeps a quarter of the customers, 1 keeps all."
        )
    return value


def parse_natural(text):
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 on.")
    return int(text)


def main(argv=None):
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
        help=f"memory for DuckDB before it spills to disk (default: MEMORY_LIMIT of the environment, {memory_limit()})",
    )
    parser.add_argument(
        "--max-bad-rows", metavar="N", type=parse_natural, default=0,
        help="put up to N lines that break a rule aside in rejects.csv instead of stopping (default: 0)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    try:
        create_parquet_dataset(args.data_dir, args.fraction, args.by, args.seed, args.max_bad_rows, args.memory_limit)
    except (DatasetError, LineageError, MemoryLimitError) as error:
        print(f"create_parquet_dataset.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
