"""How long a reader waits for the stored tables: reading.py WHAT FOLDER.

client: all three tables through Metaflow's Client; client_test: `data.test` alone; pyarrow: the
same bytes, read by pyarrow from files in FOLDER, which extract puts there (not a measurement).
Prints the seconds as JSON; imports are not counted.
"""

import argparse
import io
import json
import time
from pathlib import Path

import pyarrow.parquet as pq


def stored():
    """The artifacts of the latest run of DataPrepFlow, none of them loaded yet."""
    from metaflow import Flow, namespace

    namespace(None)
    return Flow("DataPrepFlow").latest_successful_run.data


def extract(folder):
    """Write the parquet bytes in label_to_dataset to files, with the options to read them with."""
    files = []

    def keep(source, **options):
        path = folder / f"artifact_{len(files)}.parquet"
        path.write_bytes(source.read())
        files.append((path.name, options))
        return io.BytesIO()

    # The artifact unpickles by opening its bytes with ParquetFile and reading that: here `keep` is called instead.
    pq.ParquetFile = keep
    _ = stored().label_to_dataset
    (folder / "artifact.json").write_text(json.dumps(files))


def main(argv=None):
    """Read, and print {"seconds": ...}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("extract", "pyarrow", "client", "client_test"))
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.what == "pyarrow":
        files = json.loads((arguments.folder / "artifact.json").read_text())
    else:
        import metaflow  # noqa: F401, imported before the clock starts
    started = time.perf_counter()
    if arguments.what == "extract":
        extract(arguments.folder)
    elif arguments.what == "pyarrow":
        _ = [pq.ParquetFile(arguments.folder / name, **options).read() for name, options in files]
    elif arguments.what == "client":
        _ = stored().label_to_dataset
    else:
        _ = stored().test
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
