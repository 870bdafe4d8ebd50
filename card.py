"""The card of get_dataset: what is in the data set, and is the split fair?

Aggregates only: no row and no id of a customer leaves the tables.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from metaflow import current
from metaflow.cards import Markdown, ProgressBar, Table, VegaChart

from dataset import SCHEMA
from engine import path_literal, scan
from summary import verdict_text

# They differ in lightness too: for colour-blind readers, and in print.
KEPT, CHOSEN, LEFT_OUT = "#56B4E9", "#0072B2", "#AAAAAA"
SPLIT_COLOURS = {"train": "#0072B2", "valid": "#E69F00", "test": "#222222"}
SPLIT_SCALE = {"domain": [*SPLIT_COLOURS], "range": [*SPLIT_COLOURS.values()]}
OF_SPLIT = {"field": "split", "type": "nominal", "scale": SPLIT_SCALE}
# The lower end of a band of values, and what it is called.
HISTORIES = {0: "none", 1: "1 to 4", 5: "5 to 9", 10: "10 to 19", 20: "20 to 49", 50: "50 to 99", 100: "100 or more"}
PRICES = {cents / 100: f"from 0.{cents:02}" for cents in range(10)} | {0.1: "0.10 or more"}
CHANNELS = {1: "1, shop", 2: "2, online", 3: "3 or more"}
AGES = {0: "below 20"} | {age: f"{age} to {age + 9}" for age in range(20, 70, 10)} | {70: "70 or more"}
Splits = dict[str, dict[str, Any]]  # the artifact `summary`
CARD = "data_set"  # the id of our card among the step's cards
SECONDS_BEFORE_PROGRESS = 5  # each refresh starts a process of Metaflow's: not for short steps
# Five small charts stand in one row where there is room, and below each other on a phone.
STYLE = """<style>
.mf-card .sectionItems { grid-gap: .5rem; }
.mf-card ul { padding-left: 1.2rem; margin-bottom: 1rem; }
.mf-card td, .mf-card th { padding: .3rem .6rem; text-align: right; }
.mf-card td:first-child, .mf-card th:first-child { text-align: left; }
.mf-card table:has(.vega-embed) { table-layout: fixed !important; width: 100%; }
.mf-card td:has(.vega-embed) { background: none; padding: 0; vertical-align: top; }
.mf-card .vega-embed { width: 100%; break-inside: avoid; }
.mf-card svg { max-width: 100%; height: auto; }
@media screen and (max-width: 60rem) {
  .mf-card main { padding: 1rem; }
  .mf-card td, .mf-card th { font-size: .7rem; padding: .2rem; overflow-wrap: anywhere; }
  .mf-card td:has(.vega-embed) { display: block; }
}
@media print {
  aside { display: none !important; } main { margin: 0 !important; }
  .mf-card .sectionItems { display: block; }
  h2, h2 + p { break-after: avoid; }
}
</style>"""


def show_progress(batches: Iterable[pa.RecordBatch], rows_expected: int) -> Iterator[pa.RecordBatch]:
    """Yield the record batches; the card says how many of the expected rows have passed."""
    card = current.card[CARD]
    bar = ProgressBar(max=100, label="Rows split by date", unit="%")
    card.append(bar)
    rows, started = 0, time.monotonic()
    for batch in batches:
        yield batch
        rows += batch.num_rows
        bar.update(min(100, 100 * rows // max(rows_expected, 1)), f"{rows:,} of {rows_expected:,}")
        if time.monotonic() - started > SECONDS_BEFORE_PROGRESS:
            card.refresh()


def show_card(
    con: duckdb.DuckDBPyConnection,
    paths: dict[str, Path],
    summary: Splits,
    leak_check: dict[str, str],
    lineage: dict[str, Any],
    run: dict[str, Any],
    size: tuple[int, int],
) -> None:
    """Put the finished card in the place of the progress bar; after summarize().

    paths: {'train', 'valid', 'test': parquet file}; summary, leak_check, lineage: the artifacts of
    the run; run: its id and its parameters as given, {name: value}; size: rows and units of the
    data set before row sampling.
    """
    steps = funnel(summary, lineage, run, *size)
    days = con.sql(f"select strftime(value, '%Y-%m-%d') as day, * from ({counts(paths, 't_dat')}) order by day")
    days = days.select("day, split, count as rows").to_arrow_table().to_pylist()
    parts = [
        Markdown(f"{STYLE}\n\n# What is in the data set, and is the split fair?"),
        Markdown(answers(summary, leak_check, lineage, run, steps)),
        headline(con, paths, summary, days),
        Markdown(
            "## Rows per day\n\nA row is one purchase line: what a customer bought of an article on one day, at one"
            " price, through one channel. Units are the pieces. New is who or what has no row in train."
        ),
        daily_chart(days, run),
        Markdown("## Where the rows went\n\nFrom the file of purchases to the tables. Grey is what was taken away."),
        bar_chart("Rows after each step", steps),
        *(drift(con, paths) if summary["test"]["rows"] else []),
        *min_interactions(con, paths, lineage),
        *empty_cells(con, paths, summary),
        Markdown("## Leak check, parameters and origin\n\nEqual fingerprints: equal rows; equal sha256: equal files."),
        origin(summary, leak_check, lineage, run),
    ]
    card = current.card[CARD]
    card.clear()
    card.extend(parts)


def as_text(value: object) -> str:
    """The value for a Markdown part of the page: whatever it holds, it is shown and does nothing.

    Tables and charts need no such care: Metaflow's page and Vega write their cells and labels as text.
    """
    return "".join(c if c.isalnum() or c in " .,:;%()/-\N{NO-BREAK SPACE}" else f"&#{ord(c)};" for c in str(value))


def share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / (whole or 1):.1f}\N{NO-BREAK SPACE}%)"


def counts(paths: dict[str, Path], column: str) -> str:
    """SQL for how often each value of the column stands in each split: split, value, count."""
    return " union all ".join(
        f"select '{label}' as split, {column} as value, count(*) as count from {scan(path)} group by all"
        for label, path in paths.items()
    )


def chart(description: str, data: list[dict[str, Any]], **spec: Any) -> VegaChart:
    """A Vega-Lite chart as wide as its place, as SVG: sharp in print, and its texts are texts."""
    config = {"axis": {"labelFontSize": 12, "grid": False}, "mark": {"tooltip": True}, "view": {"stroke": None}}
    spec |= {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", "description": description, "config": config}
    spec |= {"usermeta": {"embedOptions": {"renderer": "svg"}}, "width": "container", "data": {"values": data}}
    return VegaChart(spec)


def bar(text: str, colour: str, length: int, start: int = 0) -> dict[str, Any]:
    return {"text": text, "colour": colour, "start": start, "end": start + length}


def bar_chart(description: str, bars: list[dict[str, Any]]) -> VegaChart:
    """Bars, each with its text above, which so fits on a phone."""
    above = {"labelAlign": "left", "labelPadding": 0, "labelOffset": -6, "labelLimit": 0, "ticks": False}
    x = {"field": "start", "type": "quantitative", "axis": None, "scale": {"nice": False}}
    y = {"field": "text", "type": "nominal", "sort": None, "title": None, "axis": above | {"domain": False}}
    encoding = {"x": x, "x2": {"field": "end"}, "y": y, "color": {"field": "colour", "type": "nominal", "scale": None}}
    mark = {"type": "bar", "height": 10, "yOffset": 8}
    return chart(description, bars, height={"step": 36}, mark=mark, encoding=encoding)


def answers(
    summary: Splits,
    leak_check: dict[str, str],
    lineage: dict[str, Any],
    run: dict[str, Any],
    steps: list[dict[str, Any]],
) -> str:
    """The questions for which the card is opened, each with its answer in a sentence or two."""
    test, begins, filtered = summary["test"], run["validation_end_date"], lineage.get("vars")
    new = f"{share(test['new_customers'], test['customers'])} of {test['customers']:,}."
    if run["row_sampling"] not in (0, 100):
        new += " In a sample of the rows, a customer may be new because no earlier row was drawn."
    if filtered:
        least, day = filtered["min_interactions"], filtered["training_end_date"]
        new += f" Only customers with {least} or more purchase lines before {day} are in the data set."
    for group in lineage.get("customers_by_lines", []):
        if group["lines"] == 0:
            new += f" {group['customers']:,} who bought only later, with {group['rows']:,} rows, are not."
    left_out = [f"{step['text']} ({step['why']})" for step in steps if "why" in step and step["start"] < step["end"]]
    answers = {
        "When is the split?": f"train is all days before {run['training_end_date']}; valid is from then to the day"
        f" before {begins}; test is from {begins} to {test['last_day'] or 'the end'}.",
        "How many customers of the test days are new?": new,
        "What was left out, and why?": f"{'; '.join(left_out) or 'Nothing that the files tell of'}.",
        "Does a later day leak into train?": f"No. {verdict_text(leak_check).capitalize()}.",
    }
    return "\n".join(f"- **{question}** {as_text(answer)}" for question, answer in answers.items())


def headline(
    con: duckdb.DuckDBPyConnection, paths: dict[str, Path], summary: Splits, days: list[dict[str, Any]]
) -> Table:
    """Rows, units, customers, articles and days, of the whole and of each split, and what is new in it."""
    later = " union all ".join(f"select customer_id, article_id from {scan(paths[at])}" for at in ("valid", "test"))
    new = "count(distinct {0}_id) filter ({0}_id not in (select {0}_id from train_{0}s))".format
    ((customers, articles),) = con.sql(f"select {new('customer')}, {new('article')} from ({later})").fetchall()
    train, splits = summary["train"], summary.values()
    whole = {name: sum(split[name] for split in splits) for name in ("rows", "units")}
    whole |= {"customers": train["customers"] + customers, "articles": train["articles"] + articles}
    table = [[name, *(f"{of[name]:,}" for of in (whole, *splits))] for name in whole]
    table[0] = ["rows", *(share(of["rows"], whole["rows"]) for of in (whole, *splits))]
    table.append(["days with rows", f"{len(days):,}", *(f"{sum(d['split'] == at for d in days):,}" for at in summary)])
    for part in ("customers", "articles"):
        for name, of in ((f"new_{part}", part), (f"rows_of_new_{part}", "rows")):
            cells = (share(split[name], split[of]) for split in (summary["valid"], summary["test"]))
            table.append([name.replace("_", " "), "", "", *cells])
    return Table(table, ["", "whole", *summary])


def daily_chart(days: list[dict[str, Any]], run: dict[str, Any]) -> VegaChart:
    """Rows per day, and two lines where valid and test begin."""
    x = {"field": "day", "timeUnit": "utcyearmonthdate", "title": None, "axis": {"format": "%b %Y"}}
    y = {"field": "rows", "type": "quantitative"}
    colour = OF_SPLIT | {"legend": {"orient": "top", "title": None, "labelFontSize": 12}}
    begins = {"valid": run["training_end_date"], "test": run["validation_end_date"]}
    bars = {"mark": {"type": "bar", "binSpacing": 0}, "encoding": {"x": x, "y": y, "color": colour}}
    lines = {"mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"x": x | {"bandPosition": 0}}}
    lines["data"] = {"values": [{"day": day} for day in begins.values()]}
    title = {"text": [f"{label} from {day}" for label, day in begins.items()], "anchor": "end", "fontSize": 12}
    return chart("Rows per day", days, height=220, title=title, layer=[bars, lines])


def funnel(
    summary: Splits, lineage: dict[str, Any], run: dict[str, Any], in_dataset: int, units: int
) -> list[dict[str, Any]]:
    """From the file of purchases to the three tables, as far as the files tell, as bars."""
    steps, made_from = [], lineage.get("create_parquet_dataset")
    if made_from:
        purchases, unknown, filtered = made_from["rows"]["transactions_train"], made_from["unknown"], lineage["vars"]
        few = f"of customers with under {filtered['min_interactions']} purchase lines"
        left = purchases["read"]
        steps.append(bar(f"{left:,} rows in transactions_train.csv", KEPT, left))
        for rows, text, why in (
            (purchases["rejected"], "rejected: broken lines", "they are in rejects.csv"),
            (purchases["sampled_out"], f"left out by fraction {made_from['fraction']:g}", "as asked for"),
            (unknown["either"], "of unknown articles or customers", "the other two files lack them"),
            (
                purchases["kept"] - unknown["either"] - units,
                few,
                f"before {filtered['training_end_date']}: too short a history",
            ),
            (units - in_dataset, "merged into the quantity of an equal row", "not lost: units of one purchase"),
        ):
            left -= rows
            steps.append(bar(f"{rows:,} rows {text}", LEFT_OUT, rows, left) | {"why": why})
    steps.append(bar(f"{in_dataset:,} rows in the data set", KEPT, in_dataset))
    drawn, start = sum(split["rows"] for split in summary.values()), 0
    left_out, why = in_dataset - drawn, f"{run['row_sampling']} percent asked for"
    steps.append(bar(f"{left_out:,} rows not drawn by row_sampling", LEFT_OUT, left_out, drawn) | {"why": why})
    for label, split in summary.items():
        steps.append(bar(f"{split['rows']:,} rows in {label}", SPLIT_COLOURS[label], split["rows"], start))
        start += split["rows"]
    return steps


def drift(con: duckdb.DuckDBPyConnection, paths: dict[str, Path]) -> list[Markdown | Table]:
    """How train and test differ: five small charts of shares, and how far apart these are."""
    paths = {label: paths[label] for label in ("train", "test")}
    history = (
        "select 'train' as split, lines as value, count(*) as count from train_customers group by all union all"
        f" select 'test', coalesce(lines, 0), count(*) from (select distinct customer_id from {scan(paths['test'])})"
        " left join train_customers using (customer_id) group by all"
    )
    text = (
        "## Train against test: where they drift apart\n\nShares of the rows (first chart: of the customers, by their"
        " lines), train blue, test black. The percentage is the part of test that had to change for both to be alike."
    )
    charts = [
        drift_chart(con, "Lines in train", history, HISTORIES),
        drift_chart(con, "Price", counts(paths, "price"), PRICES),
        drift_chart(con, "Channel", counts(paths, "sales_channel_id"), CHANNELS),
        drift_chart(con, "Product group", counts(paths, "product_group_name")),
        drift_chart(con, "Age", counts(paths, "age"), AGES),
    ]
    return [Markdown(text), Table([charts])]


def drift_chart(
    con: duckdb.DuckDBPyConnection, title: str, query: str, bands: dict[float, str] | None = None
) -> VegaChart:
    """Shares of train and test side by side, for each band of the query's values, or else each value."""
    shares = {"train": Counter(), "test": Counter()}
    for split, value, count in con.sql(query).fetchall():
        if bands and value is not None:
            value = bands[max((low for low in bands if low <= value), default=min(bands))]
        shares[split][value or "not known"] += count
    shares = {split: Counter({value: n / of.total() for value, n in of.items()}) for split, of in shares.items()}
    largest = shares["train"] | shares["test"]
    seen = sorted(largest, key=lambda value: (-largest[value], value))
    if bands:
        seen = [value for value in (*bands.values(), "not known") if value in seen]
    data = [{"value": value, "split": split, "share": of[value]} for value in seen for split, of in shares.items()]
    apart = sum(abs(shares["train"][value] - shares["test"][value]) for value in seen) / 2
    x = {"field": "share", "type": "quantitative", "title": None, "axis": {"format": "%", "tickCount": 2}}
    y = {"field": "value", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 120, "ticks": False}}
    encoding = {"x": x, "y": y, "yOffset": {"field": "split", "sort": None}, "color": OF_SPLIT | {"legend": None}}
    heading = {"text": title, "subtitle": f"{apart:.1%} apart", "anchor": "start"}
    return chart(title, data, title=heading, height={"step": 11}, mark="bar", encoding=encoding)


def min_interactions(
    con: duckdb.DuckDBPyConnection, paths: dict[str, Path], lineage: dict[str, Any]
) -> list[Markdown | VegaChart]:
    """What other values would keep: all of them, where dbt has counted whom it left out."""
    filtered, groups = lineage.get("vars", {}), lineage.get("customers_by_lines")
    first, chosen = 1, filtered.get("min_interactions", 1)
    if chosen > 20:
        return []  # nobody counted so far
    if groups:
        text = f"before {as_text(filtered['training_end_date'])}, and all their rows. The dark bar is this data set."
    else:
        first, text = chosen, "in train, and all their rows."
        if chosen > 1:
            text += f" dbt left out those with fewer than {chosen}; run it with min_interactions 1 to see them here."
        later = counts({label: paths[label] for label in ("valid", "test")}, "customer_id")
        groups = con.sql(
            "select lines, count(*) as customers, sum(lines + later)::bigint as rows from (select sum(lines) as lines,"
            " sum(later) as later from (select customer_id, lines, 0 as later from train_customers union all"
            f" select value, 0, count from ({later})) group by customer_id) where lines > 0 group by all"
        )
        groups = groups.to_arrow_table().to_pylist()
    bars = []
    for least in range(first, 21):
        customers, rows = (sum(g[what] for g in groups if g["lines"] >= least) for what in ("customers", "rows"))
        text_of_bar = f"{least}: {customers:,} customers, {rows:,} rows"
        bars.append(bar(text_of_bar, CHOSEN if least == chosen else KEPT, customers))
    title = "## What another min_interactions would keep\n\nCustomers with at least so many purchase lines"
    return [Markdown(f"{title} {text}"), bar_chart("Customers kept by min_interactions", bars)]


def empty_cells(con: duckdb.DuckDBPyConnection, paths: dict[str, Path], summary: Splits) -> list[Markdown | Table]:
    """Nulls of each column, which the parquet files know without being read."""
    nulls = {}
    for label, path in paths.items():
        query = f"select path_in_schema, sum(stats_null_count)::bigint from parquet_metadata({path_literal(path)})"
        nulls[label] = Counter(dict(con.sql(f"{query} group by all").fetchall()))
    columns = [column for column in SCHEMA.names if any(of[column] for of in nulls.values())]
    table = [[name, *(share(of[name], summary[label]["rows"]) for label, of in nulls.items())] for name in columns]
    text = f"## Empty cells\n\n{len(SCHEMA) - len(table)} of the {len(SCHEMA)} columns have none."
    return [Markdown(text), *([Table(table, ["column", *paths])] if table else [])]


def origin(summary: Splits, leak_check: dict[str, str], lineage: dict[str, Any], run: dict[str, Any]) -> Table:
    """The verdict, the parameters, the splits and the files of all stages, by content."""
    made_from = lineage.get("create_parquet_dataset") or {}
    files = [*made_from.get("inputs", []), *made_from.get("outputs", []), *lineage["dataset"]]
    table = [[name, str(value)] for name, value in (leak_check | run).items()]
    table += [[f"fingerprint of {label}", split["fingerprint"]] for label, split in summary.items()]
    table += [[f"sha256 of {file['name']}, {file['bytes']:,} bytes", file["sha256"][:16]] for file in files]
    return Table(table)
