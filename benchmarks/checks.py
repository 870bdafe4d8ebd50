"""What the checks cost: checks.py WHAT FOLDER, after the pipeline has run in FOLDER.

hashes: the content hashes that the three stages make and check; leaks: the leak check. Prints the
seconds as JSON; imports are not counted.
"""

import argparse
import datetime
import json
import os
import sys
import time
from pathlib import Path

TABLES = ("articles", "customers", "transactions_train")
RESULT, ITEMS = "filtered_dataframe.parquet", "items.parquet"


def hashes(folder):
    from prep.manifest import content_of

    started = time.perf_counter()
    for name in [f"{table}.csv" for table in TABLES] + [*TABLES, RESULT, ITEMS] * 2:  # once made, once checked
        content_of(folder / name)
    return time.perf_counter() - started


def leaks(folder):
    """The leak check, and what it asks: each customer and article with its rows in each split."""
    from prep import duck
    from prep.shop import read_shop
    from prep.split.dataset import columns_query, temporary_folder
    from prep.split.leaks import check_for_leaks
    from prep.split.members import Members
    from prep.split.splits import make_splits
    from prep.split.star import write_splits

    shop = read_shop()
    with temporary_folder() as temporary:
        con = duck.connect(spill_to=temporary)
        splits = make_splits(datetime.datetime(2020, 9, 8), datetime.datetime(2020, 9, 15), temporary)
        query = columns_query(con, [folder / RESULT], shop.columns)
        write_splits(con, query, splits, shop, lambda rows: None)
        started = time.perf_counter()
        check_for_leaks(Members(con, shop, splits), 5, set())
        return time.perf_counter() - started


def main(argv=None):
    """Measure one thing and print {"seconds": ...}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("hashes", "leaks"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    os.environ.setdefault("METAFLOW_USER", "benchmark")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    seconds = {"hashes": hashes, "leaks": leaks}[arguments.what](arguments.folder)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
