"""The figures of each split as text, for the end of a run; the card shows them and more."""

import shlex
import sys
from pathlib import Path
from typing import Any


def verdict_text(leak_check: dict[str, str]) -> str:
    """The leak check in one line."""
    broken = sum(verdict.startswith("broken") for verdict in leak_check.values())
    asked = [verdict for verdict in leak_check.values() if verdict == "passed" or verdict.startswith("broken")]
    text = f"leak check: {broken or 'none'} of {len(asked)} rules broken"
    if len(asked) < len(leak_check):
        text += f", {len(leak_check) - len(asked)} not asked of a sample"
    return text


def summary_text(summary: dict[str, dict[str, Any]], leak_check: dict[str, str]) -> str:
    """The figures of each split as lines; none begins with a blank, which Metaflow would strip."""
    splits, rows = summary.values(), sum(split["rows"] for split in summary.values())
    lines = [
        f"{label:<6}{split['first_day']} to {split['last_day']}" if split["rows"] else f"{label:<6}no row"
        for label, split in summary.items()
    ]
    table = [["split", *summary]]
    for key in ("rows", "units", "customers", "new_customers", "articles", "new_articles"):
        counts = [f"{split[key]:,}" if key in split else "" for split in splits]
        table.append(["- new" if key.startswith("new") else key, *counts])
    table.insert(2, ["- share", *(f"{split['rows'] / rows:.1%}" for split in splits)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        figures = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(" ".join([f"{name:<{widths[0]}}", *figures]))
    return "\n".join([*lines, verdict_text(leak_check)])


def closing_text(run_id: str, row_sampling: int) -> str:
    """How to see the run and to open its tables: lines that work as they stand, wherever the reader is."""
    from metaflow.metaflow_config import DATASTORE_SYSROOT_LOCAL, DEFAULT_METADATA
    from metaflow.util import get_username

    flow = shlex.join([sys.executable, str(Path(sys.argv[0]).resolve())])
    settings = f"METAFLOW_USER={shlex.quote(get_username())}"
    if DATASTORE_SYSROOT_LOCAL:
        settings += f" METAFLOW_DATASTORE_SYSROOT_LOCAL={shlex.quote(DATASTORE_SYSROOT_LOCAL)}"
    lines = []
    if row_sampling not in (0, 100):
        lines.append(f"ATTENTION: A SAMPLE: these are {row_sampling} percent of the rows; --row_sampling 0 takes all")
    see = f"{settings} {flow} card view {run_id}/get_dataset"
    lines += [
        "See it:",
        f"cd {shlex.quote(str(Path.cwd()))} && {see}",
        "All done. Open the tables in Python:",
        "import metaflow",
        "metaflow.namespace(None)",
    ]
    if DEFAULT_METADATA == "local":
        root = DATASTORE_SYSROOT_LOCAL or str(Path.cwd())
        lines.append(f"metaflow.metadata({'local@' + root!r})")
    lines += [f"data = metaflow.Run('DataPrepFlow/{run_id}').data", "tables = data.label_to_dataset"]
    return "\n".join(lines)
