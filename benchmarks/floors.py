"""The floor: what DuckDB needs only to parse, only to write, only to read: floors.py WHAT FOLDER.

FOLDER holds the CSV files and what stages 1 and 2 made of them. Prints the seconds as JSON. Reading
and parsing throw the rows away (EXPLAIN ANALYZE runs the whole query and keeps no result; a count
would not even read the columns). Writing starts from a table in memory, which is filled before the
clock starts, so no time of decoding is in the figure. It takes about 10 GB at scale 1, and a
machine with less spills and shows too high a floor.
"""

import argparse
import csv
import json
import time
from pathlib import Path

import duckdb

INPUTS = ("articles", "customers", "transactions_train")
RESULT = ("filtered_dataframe.parquet",)
PURCHASE_TYPES = {"t_dat": "date", "price": "double", "sales_channel_id": "bigint"}


def csv_scan(path):
    """SQL that reads a CSV file with declared types, as stage 1 does but without its checks."""
    with path.open(newline="") as file:
        columns = {name: PURCHASE_TYPES.get(name, "varchar") for name in next(csv.reader(file))}
    return (
        f"read_csv('{path}', auto_detect = false, header = true, delim = ',', quote = '\"', "
        f"escape = '\"', columns = {columns})"
    )


def main(argv=None):
    """Measure one thing and print {"seconds": ...}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("parse", "write_inputs", "read_inputs", "write_result", "read_result"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    what, folder = arguments.what, arguments.folder
    con = duckdb.connect()
    out = folder / "floor.parquet"
    if what == "parse":
        sources = [csv_scan(folder / f"{name}.csv") for name in INPUTS]
    else:
        names = INPUTS if what.endswith("inputs") else RESULT
        sources = [f"read_parquet('{folder / name}')" for name in names]
    if what.startswith("write"):
        for number, source in enumerate(sources):
            con.execute(f"create table source_{number} as select * from {source}")
        sources = [f"source_{number}" for number in range(len(sources))]
    started = time.perf_counter()
    for source in sources:
        if what.startswith("write"):
            con.execute(f"copy (from {source}) to '{out}' (format parquet, compression zstd)")
        else:
            con.execute(f"explain analyze select * from {source}").fetchall()
    print(json.dumps({"seconds": time.perf_counter() - started}))
    out.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
