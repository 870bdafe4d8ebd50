"""The card of get_dataset: what is in the data set, and is the split fair?

Aggregates only: no row and no id of a customer leaves the tables.
"""

import bisect
import datetime
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from metaflow import current
from metaflow.cards import Markdown, ProgressBar, Table, VegaChart

from prep.duck import identifier
from prep.manifest import MOST_LINES
from prep.report.charts import (
    KEPT,
    LEFT_OUT,
    SPLIT_COLOURS,
    as_text,
    bar,
    bar_chart,
    curve_chart,
    daily_chart,
    drift_chart,
    left_out_chart,
    share,
)
from prep.report.summary import verdict_text
from prep.split.members import NAMES, Members

CARD = "data_set"  # the id of our card among the step's cards
ROWS_PER_PROGRESS_LINE = 5_000_000
SECONDS_BEFORE_PROGRESS = 5  # each refresh starts a process of Metaflow's: not for short steps
# The lower end of a band of values, and what it is called.
HISTORIES = {0: "none", 1: "1 to 4", 5: "5 to 9", 10: "10 to 19", 20: "20 to 49", 50: "50 to 99", 100: "100 or more"}
MOST_VALUES = 10  # numbers with more are shown in bands
UNKNOWN = "not known"
WEEKS = 8  # of the timeline that are shown larger
# Metaflow's column with its logo goes, and small charts stand in one row where there is room.
STYLE = """<style>
aside { display: none !important; }
.mf-card main { margin: 0 auto !important; max-width: 75rem; }
.mf-card .sectionItems { grid-gap: .5rem; }
.mf-card td, .mf-card th { padding: .3rem .6rem; text-align: right; }
.mf-card td:first-child, .mf-card th:first-child { text-align: left; }
.mf-card table:has(.vega-embed) { table-layout: fixed !important; width: 100%; }
.mf-card td:has(.vega-embed) { background: none; padding: 0; vertical-align: top; }
.mf-card .vega-embed { width: 100%; break-inside: avoid; }
.mf-card svg { max-width: 100%; height: auto; }
.mf-card summary { cursor: pointer; font-weight: bold; }
@media screen and (max-width: 60rem) {
  .mf-card main { padding: 1rem; }
  .mf-card td, .mf-card th { font-size: .7rem; padding: .2rem; overflow-wrap: anywhere; }
  .mf-card table:has(.vega-embed) td { display: block; }
}
@media print {
  .mf-card .sectionItems { display: block; }
  h2, h2 + p { break-after: avoid; }
}
</style>"""


def show_progress(rows_expected: int) -> Callable[[int], None]:
    """A progress bar on the card; returns what is told of more rows, and prints their number now and then."""
    card = current.card[CARD]
    bar = ProgressBar(max=100, label="Rows split by date", unit="%")
    card.append(bar)
    started, rows = time.monotonic(), 0

    def progress(more: int) -> None:
        nonlocal rows
        before, rows = rows, rows + more
        bar.update(min(100, 100 * rows // max(rows_expected, 1)), f"{rows:,} of {rows_expected:,}")
        if time.monotonic() - started > SECONDS_BEFORE_PROGRESS:
            card.refresh()
        if before // ROWS_PER_PROGRESS_LINE < rows // ROWS_PER_PROGRESS_LINE:
            print(f"{rows:,} rows")

    return progress


@dataclass(frozen=True)
class Card:
    """What the card shows."""

    members: Members
    summary: dict[str, dict[str, Any]]  # the artifacts of the run
    leak_check: dict[str, str]
    lineage: dict[str, Any]
    run: dict[str, Any]  # its id and its parameters as given
    available: dict[str, Any]  # the data set before row sampling

    def show(self) -> None:
        """Put the finished card in the place of the progress bar."""
        days, steps, test = self.days(), self.funnel(), self.summary["test"]["rows"]
        begins = {"valid": self.run["training_end_date"], "test": self.run["validation_end_date"]}
        last = datetime.date.fromisoformat(days[-1]["day"]) - datetime.timedelta(weeks=WEEKS)
        late = [day for day in days if day["day"] > str(last)]
        parts = [
            Markdown(f"{STYLE}\n\n# What is in the data set, and is the split fair?\n\n{self.verdict()}"),
            self.headline(days),
            Markdown(f"## What is new after train\n\n{self.about_new()}"),
            self.new(),
            *self.left_out(),
            Markdown(f"## Rows per day\n\n{self.about_days()}"),
            daily_chart("Rows per day", days, begins, "%b %Y"),
            daily_chart(f"The last {WEEKS} weeks", late, begins, "%d %b"),
            Markdown(f"## Where the rows went\n\n{self.about_funnel(steps)}"),
            bar_chart("Rows after each step", steps),
            Markdown(f"## How long the histories are\n\n{self.long_tail()}"),
            *([self.histories()] if test else []),
            *self.min_interactions(),
            *(self.drift() if test else []),
            *self.empty_cells(),
            self.origin(),
        ]
        card = current.card[CARD]
        card.clear()
        card.extend(parts)

    def days(self) -> list[dict[str, Any]]:
        """Rows of each day: day, split, rows."""
        time = identifier(self.members.shop.time)
        each = " union all ".join(
            f"select strftime({time}, '%Y-%m-%d') as day, '{split.label}' as split, count(*) as rows"
            f" from {split.scan()} group by all"
            for split in self.members.splits
        )
        return self.members.ask(f"{each} order by day")

    @property
    def sampled(self) -> bool:
        return self.run["row_sampling"] not in (0, 100)

    def verdict(self) -> str:
        """Fair or not, in one line."""
        empty = [label for label, split in self.summary.items() if not split["rows"]]
        said = [verdict_text(self.leak_check).capitalize()]
        said.append(f"A SAMPLE of {self.run['row_sampling']} percent of the rows" if self.sampled else "all rows")
        said.append(f"{' and '.join(empty)} IS EMPTY" if empty else "no split is empty")
        colour, head = ("#B35900", "Not to be trusted yet") if empty else ("#1A7F37", "The split is fair")
        style = f"<style>.mf-card h1 + p strong {{ color: {colour}; }}</style>"  # Markdown has no colours
        return f"**{head}.** {as_text('; '.join(said))}.\n\n{style}"

    def headline(self, days: list[dict[str, Any]]) -> Table:
        """Rows, units, customers, articles and days, of the whole and of each split."""
        splits = self.summary.values()
        whole = {name: sum(split[name] for split in splits) for name in ("rows", "units")}
        for what, name in (("users", "customers"), ("items", "articles")):
            whole[name] = self.members.ask(f"select count(*) as n from {what}")[0]["n"]
        table = [[name, *(f"{of[name]:,}" for of in (whole, *splits))] for name in whole]
        table[0] = ["rows", *(share(of["rows"], whole["rows"]) for of in (whole, *splits))]
        with_rows = [str(sum(day["split"] == label for day in days)) for label in self.summary]
        table.append(["days with rows", f"{len({day['day'] for day in days}):,}", *with_rows])
        table.append(["first day", "", *(str(split["first_day"] or "") for split in splits)])
        table.append(["last day", "", *(str(split["last_day"] or "") for split in splits)])
        return Table(table, ["", "whole", *self.summary])

    def new(self) -> Table:
        """The articles and customers without a row in train, and the rows that they are in."""
        later = self.summary["valid"], self.summary["test"]
        table = []
        for part in ("articles", "customers"):
            table.append([f"new {part}", *(share(split[f"new_{part}"], split[part]) for split in later)])
            table.append(
                [f"rows of new {part}", *(share(split[f"rows_of_new_{part}"], split["rows"]) for split in later)]
            )
        return Table(table, ["", "valid", "test"])

    def about_new(self) -> str:
        """What new means here, and for whom the tables say nothing."""
        text, filtered = "New is what has no row in train.", self.lineage.get("vars")
        if self.sampled:
            text += " In a sample of the rows, a customer may be new because no earlier row was drawn."
        if filtered:
            least, day = filtered["min_interactions"], filtered["training_end_date"]
            text += " Without a sample, no customer is new: only" if self.sampled else " No customer is new: only"
            text += f" those with {least} or more purchase lines before {day} are in the data set."
        if left_out := self.lineage.get("left_out"):
            text += (
                f" {left_out['customers']:,} others bought from that day on, {left_out['rows']:,} purchase lines;"
                " they are left out."
            )
        return as_text(text)

    def left_out(self) -> list[VegaChart]:
        """Day by day, who bought from training_end_date on and is left out."""
        days = (self.lineage.get("left_out") or {}).get("by_day")
        return [left_out_chart("Purchase lines that are left out, by day", days)] if days else []

    def about_days(self) -> str:
        grain = ", ".join(as_text(name) for name in self.members.shop.grain)
        return (
            f"A row is one purchase line ({grain}); units are the pieces. train is all days before"
            f" {self.run['training_end_date']}, test begins on {self.run['validation_end_date']}, valid lies between."
        )

    def long_tail(self) -> str:
        """How much of train belongs to the few who have most of it."""
        text = []
        for what, name in NAMES.items():
            (tail,) = self.members.ask(
                "select count(*) filter (place <= few) as few,"
                " coalesce(sum(train) filter (place <= few), 0)::bigint as rows"
                " from (select train, row_number() over (order by train desc, id) as place,"
                f" ceil(count(*) over () / 100) as few from {what}s where train > 0)"
            )
            rows = share(tail["rows"], self.summary["train"]["rows"])
            text.append(f"The {tail['few']:,} {name} with most rows, 1 % of them, have {rows} of train's rows.")
        return as_text(" ".join(reversed(text)))

    def histories(self) -> VegaChart:
        """Lines in train of the customers of train and of test."""
        counts = [
            (split, next(HISTORIES[low] for low in reversed(HISTORIES) if low <= row["lines"]), row["n"])
            for split in ("train", "test")
            for row in self.members.ask(
                f"select train as lines, count(*) as n from users where {split} > 0 group by all"
            )
        ]
        return drift_chart("Lines in train", counts, [*HISTORIES.values()])

    def funnel(self) -> list[dict[str, Any]]:
        """From the file of purchases to the three tables, as far as the files tell, as bars."""
        steps, made_from, in_dataset = [], self.lineage.get("create_parquet_dataset"), self.available["rows"]
        if made_from:
            shop, filtered = self.members.shop, self.lineage["vars"]
            purchases = made_from["rows"][shop.purchases.name]
            lacking = [table.name for table in shop.tables if table.unknown == "left_out" and table.key]
            unknown = made_from["unknown"]["either" if len(lacking) == 2 else lacking[0]] if lacking else 0
            lines = sum(group["rows"] for group in self.lineage["customers_by_lines"])
            left = purchases["read"]
            steps.append(bar(f"{left:,} rows in the file of {shop.purchases.name}", KEPT, left))
            for rows, text, why in (
                (purchases["rejected"], "rejected: broken lines", "they are in rejects.csv"),
                (purchases["sampled_out"], f"left out by fraction {made_from['fraction']:g}", "as asked for"),
                (unknown, f"of unknown {' or '.join(lacking)}", "their files lack them"),
                (purchases["kept"] - unknown - lines, "equal to another row", "not lost: merged into quantity"),
                (
                    lines - in_dataset,
                    f"of customers with under {filtered['min_interactions']} purchase lines",
                    f"before {filtered['training_end_date']}: too short a history",
                ),
            ):
                left -= rows
                if rows:
                    steps.append(bar(f"{rows:,} rows {text}", LEFT_OUT, rows, left) | {"why": why})
        steps.append(bar(f"{in_dataset:,} rows in the data set", KEPT, in_dataset))
        drawn, start = sum(split["rows"] for split in self.summary.values()), 0
        if left_out := in_dataset - drawn:
            why = f"{self.run['row_sampling']} percent asked for"
            steps.append(bar(f"{left_out:,} rows not drawn by row_sampling", LEFT_OUT, left_out, drawn) | {"why": why})
        for label, split in self.summary.items():
            steps.append(bar(f"{split['rows']:,} rows in {label}", SPLIT_COLOURS[label], split["rows"], start))
            start += split["rows"]
        return steps

    def about_funnel(self, steps: list[dict[str, Any]]) -> str:
        """What was taken away, and why."""
        reasons = "; ".join(f"{step['text']} ({step['why']})" for step in steps if "why" in step)
        return f"From the file of purchases to the tables. Grey was taken away: {as_text(reasons or 'nothing')}."

    def drift(self) -> list[Markdown | Table]:
        """How train and test differ: small charts of shares, and how far apart these are."""
        text = (
            "## Train against test: where they drift apart\n\nShares of the rows, train blue, test black. The"
            " percentage is the part of test that had to change for both to be alike."
        )
        charts = [self.drift_of(column.name) for column in self.members.shop.columns if column.drift]
        return [Markdown(text), Table([charts])] if charts else []

    def drift_of(self, name: str) -> VegaChart:
        """One column's values, or, of a number with many, bands that hold a fifth of train each."""
        train, _, test = self.members.splits
        counts = {split.label: self.members.counts(split, name) for split in (train, test)}
        values = [value for value, _ in counts["train"] if value is not None]
        ends, names = [], []
        if self.members.shop.schema.field(name).type != pa.string() and len(values) > MOST_VALUES:
            ends = fifths(counts["train"])
            names = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(ends)]
            names = [f"below {ends[0]:.4g}", *names, f"from {ends[-1]:.4g}"] if ends else ["any"]

        def text(value: Any) -> str:
            if value is None:
                return UNKNOWN
            return names[bisect.bisect_right(ends, value)] if names else str(value)

        rows = [(split, text(value), n) for split, of in counts.items() for value, n in of]
        return drift_chart(name, rows, [*names, UNKNOWN] if names else None)

    def min_interactions(self) -> list[Markdown | VegaChart]:
        """What other values would keep: all of them, where dbt has counted whom it left out."""
        filtered, groups = self.lineage.get("vars", {}), self.lineage.get("customers_by_lines")
        first, chosen = 1, filtered.get("min_interactions", 1)
        if chosen > MOST_LINES:
            return []  # nobody counted so far
        if groups:
            text = (
                f"before {as_text(filtered['training_end_date'])}, and all their rows. The dark point is this data set."
            )
        else:
            first, text = chosen, "in train, and all their rows."
            if chosen > 1:
                text += (
                    f" dbt left out those with fewer than {chosen}; run it with min_interactions 1 to see them here."
                )
            groups = self.members.ask(
                "select train as lines, count(*) as customers, sum(train + valid + test)::bigint as rows from users"
                " where train > 0 group by all"
            )
        points = []
        for least in range(first, MOST_LINES + 1):
            customers, rows = (sum(g[what] for g in groups if g["lines"] >= least) for what in ("customers", "rows"))
            said = f"{least}: {customers:,} customers, {rows:,} rows"
            points.append({"least": least, "customers": customers, "text": said, "chosen": least == chosen})
        title = "### What another min_interactions would keep\n\nCustomers with at least so many purchase lines"
        return [Markdown(f"{title} {text}"), curve_chart("Customers kept by min_interactions", points)]

    def empty_cells(self) -> list[Markdown | Table]:
        """The share of each column that has no value."""
        names = self.members.shop.names
        nulls = {split.label: self.members.empty_cells(split) for split in self.members.splits}
        columns = [column for column in names if any(of[column] for of in nulls.values())]
        table = [
            [name, *(share(of[name], self.summary[label]["rows"]) for label, of in nulls.items())] for name in columns
        ]
        text = f"## Empty cells\n\n{len(names) - len(table)} of the {len(names)} columns have none."
        return [Markdown(text), *([Table(table, ["column", *nulls])] if table else [])]

    def origin(self) -> Markdown:
        """The verdict, the parameters, the splits and the files of all stages by content, folded away."""
        made_from = self.lineage.get("create_parquet_dataset") or {}
        files = [*made_from.get("inputs", []), *made_from.get("outputs", []), *self.lineage["dataset"]]
        rows = [(name, str(value)) for name, value in (self.leak_check | self.run).items()]
        rows += [(f"fingerprint of {label}", split["fingerprint"][:16]) for label, split in self.summary.items()]
        rows += [(f"sha256 of {file['name']}, {file['bytes']:,} bytes", file["sha256"][:16]) for file in files]
        cells = "".join(f"<tr><td>{as_text(name)}</td><td>{as_text(value)}</td></tr>" for name, value in rows)
        title = "Leak check, parameters and origin"
        return Markdown(
            f"<details><summary>{title}</summary><p>Equal fingerprints: equal rows; equal sha256: equal files.</p>"
            f"<table>{cells}</table></details>"
        )


def fifths(counts: list[tuple[Any, int]]) -> list[Any]:
    """The values at which one to four fifths of the rows lie, above the least; counts: (value, rows) in order."""
    known = [(value, rows) for value, rows in counts if value is not None]
    sums = list(itertools.accumulate(5 * rows for _, rows in known))
    at = (bisect.bisect_left(sums, part * sums[-1] // 5) for part in range(1, 5))
    return sorted({known[place][0] for place in at} - {known[0][0]})
