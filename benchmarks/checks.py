"""What the checks cost: checks.py WHAT FOLDER, after the pipeline has run in FOLDER.

hashes: the content hashes that the three stages make and check; fingerprints: of the three splits;
leaks: the leak check. Prints the seconds as JSON; imports are not counted.
"""

import argparse
import contextlib
import datetime
import json
import os
import sys
import time
from pathlib import Path

TABLES = ("articles", "customers", "transactions_train")
RESULT = "filtered_dataframe.parquet"


def hashes(folder):
    from lineage import file_identity

    started = time.perf_counter()
    for name in [f"{table}.csv" for table in TABLES] + [*TABLES, RESULT] * 2:  # once made, once checked
        file_identity(folder / name)
    return time.perf_counter() - started


@contextlib.contextmanager
def splits(folder):
    """A DuckDB connection, the dates and the three files of the split."""
    from dataset import BATCH_ROWS, dataset_query, temporary_folder
    from engine import connect
    from splits import split_by_date

    days = datetime.datetime(2020, 9, 8), datetime.datetime(2020, 9, 15)
    with temporary_folder() as temporary:
        con = connect(spill_to=temporary)
        ((rows,),) = con.sql(f"select count(*) from read_parquet('{folder / RESULT}')").fetchall()
        batches = con.sql(dataset_query(con, [folder / RESULT])).to_arrow_reader(BATCH_ROWS)
        yield con, days, split_by_date(batches, rows, *days, temporary)


def fingerprints(folder):
    from dataset import SCHEMA
    from fingerprint import fingerprint

    with splits(folder) as (_, _, paths):
        started = time.perf_counter()
        for path in paths.values():
            fingerprint(path, SCHEMA)
        return time.perf_counter() - started


def leaks(folder):
    from splits import check_for_leaks, summarize

    with splits(folder) as (con, days, paths):
        summarize(con, paths)
        started = time.perf_counter()
        check_for_leaks(con, paths, *days, 5, set())
        return time.perf_counter() - started


def main(argv=None):
    """Measure one thing and print {"seconds": ...}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("hashes", "fingerprints", "leaks"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    os.environ.setdefault("METAFLOW_USER", "benchmark")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    seconds = {"hashes": hashes, "fingerprints": fingerprints, "leaks": leaks}[arguments.what](arguments.folder)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
