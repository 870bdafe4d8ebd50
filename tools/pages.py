"""Make the parts of docs/ that have their owner elsewhere: pages.py writes them between their marks.

The columns come from dbt's YAML, the parameters from the commands' own help, the vars from dbt_project.yml,
the targets of make from the Makefile. A test holds the pages against them.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from prep.shop import data_type, meta_of, read_yaml  # noqa: E402, after the path

MARTS = ROOT / "dbt" / "models" / "marts"
OF = {"item": "article", "user": "customer", "purchase": "purchase"}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def columns(model: str) -> str:
    """Name, type, what it describes and meaning of each column of the model, in their order."""
    (found,) = (one for one in read_yaml(MARTS / f"{model}.yml")["models"] if one["name"] == model)
    return table(
        ("column", "type", "of the", "meaning"),
        (
            (
                f"`{column['name']}`",
                data_type(column),
                OF[meta_of(column).get("of", "item" if model == "items" else "purchase")],
                str(column["description"]),
            )
            for column in found["columns"]
        ),
    )


def stage_1_parameters() -> str:
    """The options of create_parquet_dataset.py."""
    from create_parquet_dataset import make_parser

    rows = []
    for action in make_parser()._actions:
        if not isinstance(action, argparse._HelpAction):
            names = action.option_strings or [str(action.metavar)]
            rows.append((f"`{names[0]}`", str(action.help)))
    return table(("parameter", "meaning"), rows)


def flow_parameters() -> str:
    """The options of data_prep.py run that are this flow's own."""
    from metaflow import Parameter

    from data_prep import DataPrepFlow

    own = [value for value in vars(DataPrepFlow).values() if isinstance(value, Parameter)]
    for one in own:
        one.init()
    return table(
        ("parameter", "default", "meaning"),
        (
            (f"`--{one.name}`", f"`{one.kwargs['default']}`" if one.kwargs["default"] != "" else "", one.kwargs["help"])
            for one in own
        ),
    )


def dbt_vars() -> str:
    """The vars of dbt/dbt_project.yml, with what stands behind each."""
    text = (ROOT / "dbt" / "dbt_project.yml").read_text(encoding="utf-8")
    found = re.findall(r"^  (\w+): (\S+) +# (.+)$", text, re.MULTILINE)
    return table(("var", "default", "meaning"), ((f"`{name}`", f"`{default}`", text) for name, default, text in found))


def make_targets() -> str:
    """The targets of the Makefile that say what they do."""
    found = re.findall(r"^([\w-]+):.*?## (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return table(("target", "what it does"), ((f"`make {name}`", text) for name, text in found))


def scores() -> str:
    """The table that the notebook of the first recommender printed when it was run."""
    notebook = json.loads((ROOT / "notebooks" / "first_recommender.ipynb").read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    printed = "".join(line for output in outputs for line in output.get("text", []))
    return "\n".join(line for line in printed.splitlines() if line.startswith("|"))


def made() -> dict[Path, str]:
    """{page: its text with all parts made anew}."""
    docs = ROOT / "docs"
    parts = {
        docs / "the-tables.md": {
            "columns of filtered_dataframe": columns("filtered_dataframe"),
            "columns of items": columns("items"),
        },
        docs / "parameters.md": {"stage 1": stage_1_parameters(), "vars": dbt_vars(), "flow": flow_parameters()},
        docs / "how-it-is-built.md": {"targets": make_targets()},
        docs / "trainers.md": {"scores": scores()},
    }
    pages = {}
    for page, texts in parts.items():
        text = page.read_text(encoding="utf-8")
        for name, part in texts.items():
            begin, end = f"<!-- made by tools/pages.py: {name} -->\n", "<!-- end -->"
            before, begun, rest = text.partition(begin)
            _, ended, after = rest.partition(end)
            if not ended:
                sys.exit(f"pages.py: {page} has no place for: {name}")
            text = f"{before}{begun}\n{part}\n\n{ended}{after}"
        pages[page] = text
    return pages


if __name__ == "__main__":
    for path, content in made().items():
        path.write_text(content, encoding="utf-8")
