"""Do two runs of DataPrepFlow hold the same data set? If not, where do they begin to differ?

    python tools/compare_runs.py 1795498003502416 1795498003509999

compares first the parameters, then the files the runs were made from, then the rows, and prints
'identical' or one line for each difference.
"""

import argparse
import signal
import sys
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from metaflow import Run, namespace
from metaflow.exception import MetaflowException, MetaflowNotFound

PARAMETERS = ("ROW_SAMPLING", "SAMPLING_SEED")
DATES = ("training_end_date", "validation_end_date")  # as the run used them, given or the shop's


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts and lists as one dict of dotted names; a file is named by its own name."""
    pairs: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list):
        pairs = ((item.get("name", i) if isinstance(item, dict) else i, item) for i, item in enumerate(value))
    else:
        return {name: value}
    return {
        key: leaf
        for part, item in pairs
        for key, leaf in flatten(item, f"{name}.{part}" if name else str(part)).items()
    }


def parameters(data: Any) -> dict[str, Any]:
    given = {name.lower(): getattr(data, name) for name in PARAMETERS}
    return given | {name: f"{getattr(data, name):%Y-%m-%d}" for name in DATES}


def differences(one: Any, other: Any) -> list[str]:
    """The lines in which two runs' data differ, in the order parameters, inputs, rows."""
    groups = {
        "parameter": [parameters(data) for data in (one, other)],
        "input": [
            flatten({**data.lineage, "customers_by_lines": None, "left_out": None}) for data in (one, other)
        ],  # that follows
        "rows": [flatten(data.summary) for data in (one, other)],
    }
    lines = []
    for group, (ours, theirs) in groups.items():
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            mine, yours = ours.get(key, "nothing"), theirs.get(key, "nothing")
            if mine != yours and not (key.endswith(".fingerprint") and equal_rows(one, other, key.partition(".")[0])):
                lines.append(f"{group} {key}: {mine} | {yours}")
    return lines


def equal_rows(one: Any, other: Any, label: str) -> bool:
    """Are the split's rows the same? Files of other versions have other fingerprints, so the tables are asked."""
    ours, theirs = (data.label_to_dataset[label] for data in (one, other))
    return plain(ours).equals(plain(theirs))


def plain(table: pa.Table) -> pa.Table:
    """The table with plain text columns: an old run has dictionaries."""
    schema = pa.schema(
        (field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    )
    return table.cast(schema)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="compare_runs.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run_ids", metavar="RUN_ID", nargs=2, help="as printed by the run, or by data_prep.py show")
    args = parser.parse_args(argv)
    if argv is None:  # as a command: `| head` ends it, as it ends cat
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    namespace(None)  # a run of a colleague is as good
    try:
        runs = [Run(f"DataPrepFlow/{run_id}") for run_id in args.run_ids]
    except MetaflowNotFound as error:
        print(f"compare_runs.py: error: {error}; start it in the folder of the runs.", file=sys.stderr)
        return 2
    except MetaflowException as error:
        print(f"compare_runs.py: error: {error}", file=sys.stderr)
        return 2
    for run in runs:
        if not run.successful:
            print(
                f"compare_runs.py: error: run {run.id} did not end well, so it has no data set.",
                file=sys.stderr,
            )
            return 2
    lines = differences(*(run.data for run in runs))
    print("\n".join(lines) if lines else "identical")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
