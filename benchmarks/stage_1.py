"""Where stage 1's time goes: stage_1.py FOLDER, the folder of the CSV files.

Reads the purchases again and again; each line does what the one before does, and one thing more. Prints
wall and CPU seconds. What comes on top in the stage: the two small files, the content hash, the look-up of
unknown articles and customers, and Python's start.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prep import duck
from prep.ingest.csv_file import CsvFile
from prep.parquet import write_parquet
from prep.shop import read_shop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    table = read_shop().purchases
    source = CsvFile(parser.parse_args().folder / f"{table.name}.csv", table)
    text, checked = source.scan(), source.checked(source.scan())
    con = duck.connect()
    typed = f"select {source.columns()} from {checked}"
    schema = con.sql(typed).limit(0).to_arrow_table().schema

    def throw_away(query: str) -> None:
        con.execute(f"explain analyze {query}")  # runs all of it; a count would not read the columns

    def stream() -> None:
        for _ in duck.batches(con, typed):
            pass

    def write() -> None:
        with tempfile.TemporaryDirectory(dir=source.path.parent) as folder:
            write_parquet(Path(folder, table.name), schema, duck.batches(con, typed))

    steps = {
        "parse, every cell as text": lambda: throw_away(f"select * from {text}"),
        "and check the rules": lambda: throw_away(f"select * from {checked}"),
        "and cast to the types": lambda: throw_away(typed),
        "and hand over as Arrow": stream,
        "and write as parquet": write,
    }
    print("| the purchases: | seconds | CPU seconds |\n|---|---|---|")
    for what, step in steps.items():
        started, used = time.perf_counter(), sum(os.times()[:2])
        step()
        print(f"| {what} | {time.perf_counter() - started:.1f} | {sum(os.times()[:2]) - used:.1f} |", flush=True)


if __name__ == "__main__":
    main()
