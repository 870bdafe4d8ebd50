"""How long a reader waits for the stored tables: reading.py WHAT FOLDER.

client: all three tables through Metaflow's Client; client_test: `data.test` alone; pyarrow: the data
set in FOLDER, which holds the same rows, by pyarrow alone.
Prints the seconds as JSON; imports are not counted.
"""

import argparse
import json
import time
from pathlib import Path

import metaflow
import pyarrow.parquet as pq


def main(argv=None):
    """Read, and print {"seconds": ...}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("client", "client_test", "pyarrow"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    metaflow.namespace(None)
    started = time.perf_counter()
    if arguments.what == "pyarrow":
        _ = pq.ParquetFile(arguments.folder / "filtered_dataframe.parquet").read()
    else:
        data = metaflow.Flow("DataPrepFlow").latest_successful_run.data
        _ = data.test if arguments.what == "client_test" else data.label_to_dataset
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
