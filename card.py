"""The card of get_dataset, and its figures as text: what is in the data set, is the split fair?

Aggregates only: no row and no id of a customer leaves the tables.
"""

import html
import time

from metaflow import current
from metaflow.cards import Markdown, ProgressBar, Table, VegaChart

from dataset import SCHEMA, scan
from engine import path_literal

# They differ in lightness too: for colour-blind readers, and in print.
TRAIN, VALID, TEST, KEPT, LEFT_OUT = "#0072B2", "#E69F00", "#222222", "#56B4E9", "#AAAAAA"
SPLIT_COLOURS = {"train": TRAIN, "valid": VALID, "test": TEST}
SECONDS_BEFORE_PROGRESS = 5  # each refresh starts a process of Metaflow's: not for short steps
# Five small charts stand in one row where there is room, and below each other on a phone.
STYLE = """<style>
.mf-card { font-size: 16px; }
.mf-card .sectionItems { grid-gap: 1rem; }
.mf-card ul { padding-left: 1.2rem; margin-bottom: 1rem; }
.mf-card td, .mf-card th { padding: .3rem .6rem; text-align: right; }
.mf-card td:first-child, .mf-card th:first-child { text-align: left; }
.mf-card tr:has(td:nth-child(5)) td { white-space: nowrap; }
.mf-card table:has(.vega-embed) { table-layout: fixed !important; width: 100%; }
.mf-card td:has(.vega-embed) { background: none; padding: 0; vertical-align: top; }
.mf-card .vega-embed { width: 100%; }
.mf-card svg { max-width: 100%; height: auto; }
@media screen and (max-width: 60rem) {
  .mf-card main { padding: 1rem; }
  .mf-card h1 { font-size: 1.4rem; }
  .mf-card td, .mf-card th { font-size: .7rem; padding: .2rem; overflow-wrap: anywhere; }
  .mf-card td:has(.vega-embed) { display: block; }
}
@media print { aside { display: none !important; } main { margin: 0 !important; } }
</style>"""


def show_progress(batches, rows_expected):
    """Yield the record batches; the card says how many of the expected rows have passed."""
    bar = ProgressBar(max=100, label="Rows split by date", unit="%")
    current.card.append(bar)
    rows, started = 0, time.monotonic()
    for batch in batches:
        yield batch
        rows += batch.num_rows
        bar.update(min(100, 100 * rows // max(rows_expected, 1)), f"{rows:,} of {rows_expected:,}")
        if time.monotonic() - started > SECONDS_BEFORE_PROGRESS:
            current.card.refresh()


def show_card(*arguments):
    """Put the finished card in the place of the progress bar; the arguments are components()'s."""
    current.card.clear()
    current.card.extend(components(*arguments))


def components(con, paths, summary, leak_check, lineage, run, size):
    """What the card shows, from top to bottom, as Metaflow's card components; after summarize().

    paths: {'train', 'valid', 'test': parquet file}; summary, leak_check, lineage: the artifacts of
    the run; run: its id and its parameters as given, {name: value}; size: rows and units of the
    data set before row sampling.
    """
    valid_begins, test_begins = run["training_end_date"], run["validation_end_date"]
    steps = funnel(summary, lineage, run, *size)
    days = con.sql(
        "select strftime(t_dat, '%Y-%m-%d') as day, split, count(*) as rows"
        f" from ({union(paths, 't_dat')}) group by all order by day"
    ).to_arrow_table()
    return [
        Markdown(f"{STYLE}\n\n# What is in the data set, and is the split fair?"),
        Markdown(answers(summary, leak_check, lineage, run, steps)),
        headline(con, paths, summary, days["split"].to_pylist()),
        section(
            "Rows per day",
            "A row is one purchase line: what a customer bought of an article on one day, at one"
            " price, through one channel; units counts the pieces. The two lines are the split:"
            f" valid begins on {valid_begins}, test on {test_begins}.",
        ),
        daily_chart(days.to_pylist(), [{"day": valid_begins}, {"day": test_begins}]),
        section(
            "Where the rows went",
            "From the file of purchases to the three tables. Grey is what a step took away. Merged"
            " rows are not lost: equal rows are several units of one purchase line.",
        ),
        bar_chart("Rows after each step", steps, steps[0]["end"]),
        section(
            "Who and what is new: the cold start",
            "New is who or what has no row in train, so that a model knows nothing of it.",
        ),
        bar_chart("New customers and articles in valid and test", cold_start(summary), 1),
        *(drift(con, paths) if summary["test"]["rows"] else []),
        *min_interactions(con, paths, lineage),
        *empty_cells(con, paths, summary),
        section("Leak check", "Made in this run, on the tables themselves."),
        Table([[rule, verdict] for rule, verdict in leak_check.items()], ["rule", "verdict"]),
        section(
            "Parameters and origin", "Equal fingerprints are equal rows, in any order; equal sha256 are equal files."
        ),
        Table([[name, str(value)] for name, value in run.items()], ["parameter", "value"]),
        Table([[of, split["fingerprint"]] for of, split in summary.items()], ["split", "fingerprint"]),
        origin(lineage),
    ]


def union(paths, columns):
    """SQL: these columns of all rows, and the split that each is in."""
    parts = (f"select '{label}' as split, {columns} from {scan(paths[label])}" for label in paths)
    return " union all ".join(parts)


def percent(part, whole):
    return f"{100 * part / whole:.1f}\N{NO-BREAK SPACE}%" if whole else "-"


def section(title, text):
    return Markdown(f"## {title}\n\n{text}")


def chart(description, data, **spec):
    """A Vega-Lite chart as wide as its place, as SVG: sharp in print, and its texts are texts."""
    return VegaChart(
        {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "description": description,
            "usermeta": {"embedOptions": {"renderer": "svg"}},
            "width": "container",
            "data": {"values": data},
            "config": {"axis": {"labelFontSize": 12, "grid": False}, "view": {"stroke": None}},
            **spec,
        }
    )


def bar(text, colour, rows, start=0):
    return {"text": text, "colour": colour, "start": start, "end": start + rows}


def bar_chart(description, bars, longest):
    """Bars on a scale from 0 to `longest`, each with its text above, which so fits on a phone."""
    place = {"field": "place", "type": "ordinal", "axis": None}
    x = {"field": "start", "type": "quantitative", "axis": None, "scale": {"domain": [0, longest]}}
    colour = {"field": "colour", "type": "nominal", "scale": None}
    bar_layer = {
        "mark": {"type": "bar", "height": 10, "yOffset": 8},
        "encoding": {"x": x, "x2": {"field": "end"}, "y": place, "color": colour},
    }
    text_layer = {
        "mark": {"type": "text", "align": "left", "dy": -6, "fontSize": 12.5},
        "encoding": {"x": {"value": 0}, "y": place, "text": {"field": "text"}},
    }
    data = [{"place": place, **bar} for place, bar in enumerate(bars)]
    return chart(description, data, height={"step": 36}, layer=[bar_layer, text_layer])


def split_colour(labels, legend):
    scale = {"domain": labels, "range": [SPLIT_COLOURS[label] for label in labels]}
    return {"field": "split", "scale": scale, "legend": legend}


def answers(summary, leak_check, lineage, run, steps):
    """The questions for which the card is opened, each with its answer in a sentence."""
    test, filtered = summary["test"], lineage.get("vars")
    left_out = [bar["text"] for bar in steps if bar["colour"] == LEFT_OUT and bar["start"] < bar["end"]]
    broken = "; ".join(f"{rule} is {verdict}" for rule, verdict in leak_check.items() if verdict != "passed")
    new = f"{test['new_customers']:,} of {test['customers']:,}"
    new += f" ({percent(test['new_customers'], test['customers'])})."
    if filtered:
        new += (
            f" Only customers with {filtered['min_interactions']} or more purchase lines before"
            f" {filtered['training_end_date']} are in the data set: who came later is not."
        )
    when = (
        f"train is all days before {run['training_end_date']}; valid is from then to the day before"
        f" {run['validation_end_date']}; test is from {run['validation_end_date']} to {test['last_day'] or 'the end'}."
    )
    lines = {
        "When is the split?": when,
        "How many customers of the test days are new?": new,
        "What was left out, and why?": f"{'; '.join(left_out) or 'nothing that the files tell of'}.",
        "Does a later day leak into train?": f"YES: {broken}." if broken else f"No: all {len(leak_check)} rules hold.",
    }
    return "\n".join(f"- **{ask}** {html.escape(answer)}" for ask, answer in lines.items())


def headline(con, paths, summary, split_of_days):
    """Rows, units, customers, articles and days, of the whole and of each split."""
    splits = list(summary.values())
    whole = {key: sum(split[key] for split in splits) for key in ("rows", "units")}
    for name, key in (("customers", "customer_id"), ("articles", "article_id")):
        later = (f"select {key} from {scan(paths[label])}" for label in ("valid", "test"))
        query = f"select count(*) from (from train_{name} select {key} union {' union '.join(later)})"
        whole[name] = con.sql(query).fetchall()[0][0]
    table = [[name, f"{count:,}", *(f"{split[name]:,}" for split in splits)] for name, count in whole.items()]
    rows = [whole["rows"], *(split["rows"] for split in splits)]
    table.insert(1, ["share of rows", *(percent(part, whole["rows"]) for part in rows)])
    days = [len(split_of_days), *(split_of_days.count(label) for label in summary)]
    table.append(["days with rows", *(f"{count:,}" for count in days)])
    for key, of_all in (("first_day", min), ("last_day", max)):
        days = [split[key] for split in splits]
        days = [of_all(filter(None, days)), *days]
        table.append([key.replace("_", " "), *(str(day or "-") for day in days)])
    return Table(table, ["", "whole", *summary])


def daily_chart(days, beginnings):
    day = {"field": "day", "timeUnit": "utcyearmonthdate", "title": None}
    labels = list(dict.fromkeys(row["split"] for row in days))
    bars = {
        "mark": {"type": "bar", "binSpacing": 0},
        "encoding": {
            "x": day | {"axis": {"format": "%b %Y"}},
            "y": {"field": "rows", "type": "quantitative"},
            "color": split_colour(labels, {"orient": "top", "title": None, "labelFontSize": 12}),
            "tooltip": [{"field": "day", "type": "nominal"}, {"field": "rows", "format": ","}],
        },
    }
    lines = {
        "data": {"values": beginnings},
        "mark": {"type": "rule", "strokeDash": [4, 3]},
        "encoding": {"x": day | {"bandPosition": 0}},
    }
    return chart("Rows per day", days, height=220, layer=[bars, lines])


def funnel(summary, lineage, run, in_dataset, units):
    """From the file of purchases to the three tables, as far as the files tell, as bars."""
    steps = []
    made_from = lineage.get("create_parquet_dataset")
    if made_from:
        purchases, unknown = made_from["rows"]["transactions_train"], made_from["unknown"]["either"]
        least = lineage["vars"]["min_interactions"]
        left = purchases["read"]
        steps.append(bar(f"{left:,} rows in transactions_train.csv", KEPT, left))
        for rows, text in (
            (purchases["rejected"], "rejected: broken lines"),
            (purchases["sampled_out"], f"left out by fraction {made_from['fraction']:g}"),
            (unknown, "of unknown articles or customers"),
            (purchases["kept"] - unknown - units, f"of customers with under {least} purchase lines"),
            (units - in_dataset, "merged into the quantity of an equal row"),
        ):
            left -= rows
            steps.append(bar(f"{rows:,} rows {text}", LEFT_OUT, rows, left))
    steps.append(bar(f"{in_dataset:,} rows in the data set", KEPT, in_dataset))
    left = sum(split["rows"] for split in summary.values())
    if left < in_dataset:
        text = f"{in_dataset - left:,} rows not drawn by row_sampling ({run['row_sampling']} percent)"
        steps.append(bar(text, LEFT_OUT, in_dataset - left, left))
    start = 0
    for label, split in summary.items():
        text = f"{split['rows']:,} rows in {label}"
        steps.append(bar(text, SPLIT_COLOURS[label], split["rows"], start))
        start += split["rows"]
    return steps


def cold_start(summary):
    """New customers and articles, and the part of the rows that is theirs, as bars."""
    bars = []
    for part, whole, text in (
        ("new_customers", "customers", "customers are new"),
        ("rows_of_new_customers", "rows", "rows are of new customers"),
        ("new_articles", "articles", "articles are new"),
        ("rows_of_new_articles", "rows", "rows are of new articles"),
    ):
        for label in ("valid", "test"):
            new, all_ = summary[label][part], summary[label][whole]
            text_of_bar = f"{label}: {new:,} of {all_:,} {text} ({percent(new, all_)})"
            bars.append(bar(text_of_bar, SPLIT_COLOURS[label], new / (all_ or 1)))
    return bars


def drift(con, paths):
    """How train and test differ: five small charts of shares, and how far apart these are."""
    train_and_test = {label: paths[label] for label in ("train", "test")}
    # One pass over the rows; the charts are sums over this small table.
    con.execute(
        "create or replace temp table drift as select split, least(floor(100 * price), 10) as price,"
        " sales_channel_id as channel, product_group_name as product_group, case when age is not null"
        " then least(greatest(floor(age / 10), 1), 7) end as age, count(*) as count"
        f" from ({union(train_and_test, '*')}) group by all"
    )
    con.execute(
        "create or replace temp table history as select split, count(*) as count,"
        " list_max([bound for bound in [0, 1, 5, 10, 20, 50, 100, 200] if bound <= lines]) as history"
        " from (select 'train' as split, lines from train_customers union all"
        f" select 'test', coalesce(lines, 0) from (select distinct customer_id from {scan(paths['test'])})"
        " left join train_customers using (customer_id)) group by all"
    )
    histories = {0: "none", 1: "1 to 4", 5: "5 to 9", 10: "10 to 19", 20: "20 to 49", 50: "50 to 99"}
    histories |= {100: "100 to 199", 200: "200 or more"}
    prices = {cents: f"from 0.{cents:02d}" for cents in range(10)} | {10: "from 0.10 on"}
    ages = {1: "below 20"} | {n: f"{n}0 to {n}9" for n in range(2, 7)} | {7: "70 or more", None: "not known"}
    charts = [
        drift_chart(con, "history", ["Purchase lines in train,", "per customer"], histories),
        drift_chart(con, "price", ["Price"], prices),
        drift_chart(con, "channel", ["Channel"], {1: "1, shop", 2: "2, online"}),
        drift_chart(con, "product_group", ["Product group"], {}),
        drift_chart(con, "age", ["Age"], ages),
    ]
    text = (
        "Shares of the rows (first chart: of the customers), train in blue and test in black. The"
        " percentage is the part of test that would have to move to other bars for both to be alike."
    )
    return [section("Train against test: where they drift apart", text), Table([charts])]


def drift_chart(con, column, title, names):
    """Shares of train and test side by side, per value of the column, in the order of `names`."""
    table = "history" if column == "history" else "drift"
    shares = {"train": {}, "test": {}}
    for split, value, share in con.sql(
        f"select split, {column}, sum(count) / any_value(whole) from {table}"
        f" join (select split, sum(count) as whole from {table} group by all) using (split)"
        " group by all order by 3 desc"
    ).fetchall():
        shares[split][value] = share
    seen = shares["train"] | shares["test"]
    values = [value for value in names if value in seen] + [value for value in seen if value not in names]
    data = [
        {"value": names.get(value, str(value)), "split": split, "share": of.get(value, 0)}
        for value in values
        for split, of in shares.items()
    ]
    apart = sum(abs(shares["train"].get(v, 0) - shares["test"].get(v, 0)) for v in seen) / 2
    y_axis, x_axis = {"labelLimit": 110, "ticks": False}, {"format": "%", "tickCount": 3}
    encoding = {
        "y": {"field": "value", "type": "nominal", "sort": None, "title": None, "axis": y_axis},
        "yOffset": {"field": "split", "sort": list(shares)},
        "x": {"field": "share", "type": "quantitative", "title": None, "axis": x_axis},
        "color": split_colour(list(shares), None),
        "tooltip": [{"field": "value"}, {"field": "split"}, {"field": "share", "format": ".1%"}],
    }
    title = {"text": title, "subtitle": f"{apart:.1%} apart", "anchor": "start"}
    description = f"Train against test: {column}"
    return chart(description, data, title=title, height={"step": 11}, mark="bar", encoding=encoding)


def min_interactions(con, paths, lineage):
    """What other values would keep, from the one on with which the data set was filtered."""
    least = lineage.get("vars", {}).get("min_interactions", 1)
    later = union({label: paths[label] for label in ("valid", "test")}, "customer_id")
    kept = con.sql(
        f"with later as (select customer_id, count(*) as rows from ({later}) group by all)"
        " select value, count(*) as customers, sum(lines + coalesce(rows, 0))::bigint as rows"
        f" from train_customers left join later using (customer_id), range({least}, 21) as v(value)"
        " where lines >= value group by all order by value"
    ).fetchall()
    bars = [bar(f"{value}: {customers:,} customers, {rows:,} rows", KEPT, customers) for value, customers, rows in kept]
    text = "Customers with at least so many purchase lines in train, and all their rows."
    if least > 1:
        text += f" dbt left out those with fewer than {least}; run it with min_interactions 1 to see them here."
    return [
        section("What another min_interactions would keep", text),
        bar_chart("Customers kept by min_interactions", bars, max((b["end"] for b in bars), default=1)),
    ]


def empty_cells(con, paths, summary):
    """Nulls of each column, which the parquet files know without being read."""
    nulls = {}
    for label, path in paths.items():
        metadata = f"parquet_metadata({path_literal(path)})"
        query = f"select path_in_schema, sum(stats_null_count)::bigint from {metadata} group by all"
        nulls[label] = dict(con.sql(query).fetchall())
    table = []
    for column in SCHEMA.names:
        counts = {label: of.get(column, 0) for label, of in nulls.items()}
        if any(counts.values()):
            cells = (f"{n:,} ({percent(n, summary[label]['rows'])})" for label, n in counts.items())
            table.append([column, *cells])
    text = f"{len(SCHEMA) - len(table)} of the {len(SCHEMA)} columns have none."
    return [section("Empty cells", text), *([Table(table, ["column", *paths])] if table else [])]


def origin(lineage):
    """The files of all stages, by content."""
    made_from = lineage.get("create_parquet_dataset") or {}
    files = [*made_from.get("inputs", []), *made_from.get("outputs", []), *lineage["dataset"]]
    rows = [[file["name"], f"{file['bytes']:,}", file["sha256"][:16]] for file in files]
    return Table(rows, ["file", "bytes", "sha256, first 16 digits"])
