"""The card of get_dataset in a browser without network, and the summary on the terminal."""

import contextlib
import glob
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pandas_pipeline
import pyarrow.parquet as pq
import pytest
import stages
import synthetic
from card_pages import charts_of, components, open_page, parts_of, values_of

WIDTHS = {"desktop": 1280, "phone": 390}
TIMELINES = ("Rows per day", "The last 8 weeks")
SLOW_FLOW = """
import time
from metaflow import FlowSpec, card, step
from prep.report import card as project_card

project_card.SECONDS_BEFORE_PROGRESS = 0

class SlowFlow(FlowSpec):
    @card(type="blank", id="data_set", refresh_interval=1)
    @step
    def start(self):
        progress = project_card.show_progress(800)
        for _ in range(40):
            time.sleep(.2)
            progress(10)
        self.next(self.end)

    @step
    def end(self):
        pass

if __name__ == "__main__":
    SlowFlow()
"""


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A folder with 95,365 synthetic purchases, after stages 1 and 2."""
    folder = tmp_path_factory.mktemp("card")
    synthetic.generate(folder, 0.003)
    assert stages.create("--data-dir", folder).code == 0
    assert stages.dbt("run", folder).code == 0
    return folder


def run(folder, *options):
    """A run of the flow: what it printed, its artifacts as plain tables, and its card's page."""
    result = stages.flow("--row_sampling", 0, *options, cwd=folder)
    assert result.code == 0, result.out + result.err
    data = stages.artifacts(result)
    page = stages.run(
        stages.PYTHON,
        stages.ROOT / "data_prep.py",
        "card",
        "get",
        f"{stages.run_of(result).id}/get_dataset",
        cwd=folder,
    )
    assert page.code == 0, page.err
    return SimpleNamespace(
        out=result.out,
        page=page.out,
        parts=parts_of(page.out),
        summary=data.summary,
        leak_check=data.leak_check,
        folder=folder,
        tables={label: stages.frame(table) for label, table in data.label_to_dataset.items()},
    )


def charts(run):
    """The Vega-Lite specifications of a card, by their description."""
    return charts_of(run.parts)


def values(run, description):
    """The data of a chart as a table."""
    return values_of(run.parts, description)


def drift(run):
    """The specifications of the charts that compare train and test, by their title."""
    return {name: spec for name, spec in charts(run).items() if "subtitle" in (spec.get("title") or {})}


def kept(tables, values):
    """What the chart of min_interactions must say of these tables, for each of the values."""
    everything = pd.concat(tables.values())
    lines = tables["train"].customer_id.value_counts()
    for least in values:
        customers = lines[lines >= least].index
        rows = everything.customer_id.isin(customers).sum()
        yield f"{least}: {len(customers):,} customers, {rows:,} rows"


def lines_of(folder):
    """All purchase lines of known customers and articles, before any filter."""
    files = [
        pandas_pipeline.read_csv(folder / f"{name}.csv") for name in ("articles", "customers", "transactions_train")
    ]
    return pandas_pipeline.known_lines(*files)


@pytest.fixture(scope="module")
def whole(data_set):
    """A run without sampling."""
    return run(data_set)


@pytest.mark.parametrize("device", WIDTHS)
def test_every_chart_is_drawn_without_network_and_nothing_sticks_out(whole, browser, tmp_path, device):
    page, errors = open_page(browser, whole.page, tmp_path, WIDTHS[device])
    assert errors == []
    expected = charts(whole)
    assert page.locator("svg.marks").count() == len(expected) == 10
    for (description, spec), svg in zip(expected.items(), page.locator("svg.marks").all(), strict=True):
        rows, curve = len(spec["data"]["values"]), description == "Customers kept by min_interactions"
        assert rows > 0
        assert svg.locator("g.role-mark.mark-rect > path").count() == (0 if curve else rows), description
        assert svg.locator("g.role-mark.mark-rule > line").count() == (2 if description in TIMELINES else 0)
        texts = svg.locator("g.role-mark.mark-text > text").all_text_contents()
        if curve:
            assert texts == [text for text in values(whole, description).text if text.startswith("5:")]
        elif description == "Rows after each step":
            assert sorted(texts) == sorted(values(whole, description).text)
    too_wide = page.evaluate("""() => [...document.querySelectorAll("svg, svg text, td, p")].filter(
        element => element.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.textContent)""")
    assert too_wide == []
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]


@pytest.mark.parametrize(
    ("width", "colours", "media"),
    [
        *((width, colours, "screen") for width in (390, 768, 1024, 1600) for colours in ("light", "dark")),
        *((width, "light", "print") for width in (794, 1123)),  # A4, upright and across
    ],
)
def test_the_page_holds_at_each_width_in_dark_and_in_print(whole, browser, tmp_path, width, colours, media):
    """Metaflow's page is light in a dark browser too; its column with the logo is nowhere."""
    page, errors = open_page(browser, whole.page, tmp_path, width)
    page.emulate_media(color_scheme=colours, media=media)
    assert errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("aside").count() == 0 or not page.locator("aside").first.is_visible()
    assert page.locator("svg.marks").count() == len(charts(whole))
    text, ground = page.evaluate("""() => {
        const of = (element, what) => getComputedStyle(element)[what].match(/[0-9.]+/g).map(Number);
        return [of(document.querySelector("h1"), "color"), of(document.body, "backgroundColor")]}""")
    assert sum(text[:3]) < 300
    assert (len(ground) == 4 and ground[3] == 0) or sum(ground[:3]) > 600  # dark on white, or on the paper
    page.close()


def test_a_screen_reader_hears_each_chart_in_its_place(whole, browser, tmp_path):
    """The order of the page is that of the eye, and each chart has a description."""
    page, _ = open_page(browser, whole.page, tmp_path, WIDTHS["desktop"])
    heard = page.evaluate("""() => [...document.querySelectorAll("h1, h2, h3, svg.marks, summary")].map(
        one => [one.getBoundingClientRect().top, one.closest("svg.marks") && one.closest("[aria-label]").ariaLabel])""")
    tops = [top for top, _ in heard]
    assert tops == sorted(tops)
    assert [label for _, label in heard if label] == list(charts(whole))


def test_small_charts_stand_in_one_row_on_a_desktop_and_below_each_other_on_a_phone(whole, browser, tmp_path):
    tops = {}
    for device, width in WIDTHS.items():
        page, _ = open_page(browser, whole.page, tmp_path, width)
        boxes = [svg.bounding_box() for svg in page.locator("td svg.marks").all()]
        assert len(boxes) == 4
        tops[device] = {round(box["y"]) for box in boxes}
    assert len(tops["desktop"]) == 1
    assert len(tops["phone"]) == 4


def test_a_newcomer_finds_the_answers_in_the_visible_text(whole, browser, tmp_path):
    page, _ = open_page(browser, whole.page, tmp_path, WIDTHS["phone"])
    text = page.locator("body").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    lines = lines_of(whole.folder)
    early = lines[lines.t_dat < "2020-09-08"].customer_id.value_counts()
    late = lines[lines.t_dat >= "2020-09-08"]
    late = late[late.customer_id.map(early).fillna(0) < 5]
    assert 0 < late.customer_id.nunique() < len(late)
    assert "The split is fair. Leak check: none of 6 rules broken; all rows; no split is empty." in text
    assert (
        "New is what has no row in train. No customer is new: only those with 5 or more purchase lines before"
        f" 2020-09-08 are in the data set. {late.customer_id.nunique():,} others bought from that day on,"
        f" {len(late):,} purchase lines; they are left out."
    ) in text
    days = values(whole, "Purchase lines that are left out, by day")
    by_day = late.groupby(late.t_dat.dt.strftime("%Y-%m-%d")).customer_id.agg(["nunique", "size"])
    assert days.set_index("day")[["customers", "rows"]].to_numpy().tolist() == by_day.to_numpy().tolist()
    assert list(days.day) == list(by_day.index)
    assert "train is all days before 2020-09-08, test begins on 2020-09-15, valid lies between." in text
    read = pq.read_metadata(whole.folder / "transactions_train").num_rows
    rows = sum(len(table) for table in whole.tables.values())
    assert (
        f"Grey was taken away: {read - len(lines):,} rows equal to another row (not lost: merged into quantity);"
        f" {len(lines) - rows:,} rows of customers with under 5 purchase lines (before 2020-09-08: too short a"
        " history)."
    ) in text
    train = whole.tables["train"]
    for key, name in (("article_id", "articles"), ("customer_id", "customers")):
        counts = train[key].value_counts()
        few = -(-len(counts) // 100)
        top = counts.iloc[:few].sum()
        assert (
            f"The {few:,} {name} with most rows, 1 % of them, have"
            f" {top:,} ({100 * top / len(train):.1f} %) of train's rows."
        ) in text
    assert whole.summary["test"]["fingerprint"][:16] not in text  # folded away
    page.get_by_text("Leak check, parameters and origin").click()
    text = page.locator("body").inner_text()
    for split in whole.summary.values():
        assert split["fingerprint"][:16] in text
    headings = page.locator("h1, h2").all_inner_texts()
    assert headings == [
        "What is in the data set, and is the split fair?",
        "What is new after train",
        "Rows per day",
        "Where the rows went",
        "How long the histories are",
        "Train against test: where they drift apart",
        "Empty cells",
    ]


def with_share(part, whole):
    return f"{part:,} ({100 * part / whole:.1f}\N{NO-BREAK SPACE}%)"


def shown_table(run, browser, tmp_path, number=0):
    page, _ = open_page(browser, run.page, tmp_path, WIDTHS["desktop"])
    return [row.locator("th, td").all_inner_texts() for row in page.locator("table").nth(number).locator("tr").all()]


def test_headline_equals_the_tables(whole, browser, tmp_path):
    tables = {"whole": pd.concat(whole.tables.values()), **whole.tables}
    assert shown_table(whole, browser, tmp_path) == [
        ["", *tables],
        ["rows", *(with_share(len(table), len(tables["whole"])) for table in tables.values())],
        ["units", *(f"{table.quantity.sum():,}" for table in tables.values())],
        ["customers", *(f"{table.customer_id.nunique():,}" for table in tables.values())],
        ["articles", *(f"{table.article_id.nunique():,}" for table in tables.values())],
        ["days with rows", *(f"{table.t_dat.nunique():,}" for table in tables.values())],
        ["first day", "", *(f"{table.t_dat.min():%Y-%m-%d}" for table in whole.tables.values())],
        ["last day", "", *(f"{table.t_dat.max():%Y-%m-%d}" for table in whole.tables.values())],
    ]


def test_rows_per_day_equal_the_tables(whole):
    days = values(whole, "Rows per day")
    assert dict(zip(zip(days.split, days.day, strict=True), days.rows, strict=True)) == {
        (label, f"{day:%Y-%m-%d}"): count
        for label, table in whole.tables.items()
        for day, count in table.t_dat.value_counts().items()
    }
    lines = charts(whole)["Rows per day"]["layer"][1]["data"]["values"]
    assert lines == [{"day": "2020-09-08"}, {"day": "2020-09-15"}]
    assert charts(whole)["Rows per day"]["title"]["text"] == ["valid from 2020-09-08", "test from 2020-09-15"]
    late = values(whole, "The last 8 weeks")
    pd.testing.assert_frame_equal(late, days[days.day > "2020-07-28"].reset_index(drop=True))
    assert len(late) == 8 * 7


def test_each_step_of_the_funnel_begins_where_the_one_before_ended(whole):
    steps = values(whole, "Rows after each step")
    read = pq.read_metadata(whole.folder / "transactions_train").num_rows
    rows = {label: len(table) for label, table in whole.tables.items()}
    assert list(steps.end - steps.start)[-3:] == list(rows.values())
    assert steps.end[0] == read
    losses = steps[steps.colour == "#AAAAAA"]
    assert list(losses.end) == [read, *losses.start[:-1]]
    assert losses.start.iloc[-1] == sum(rows.values())
    for text, size in zip(steps.text, steps.end - steps.start, strict=True):
        assert text.startswith(f"{size:,} rows ") and size > 0


def test_a_sample_counts_what_is_new_in_it_and_what_was_not_drawn(data_set, whole, browser, tmp_path):
    sampled = run(data_set, "--row_sampling", 5)
    tables, expected = sampled.tables, []
    for key, name in (("article_id", "articles"), ("customer_id", "customers")):
        later = {label: tables[label] for label in ("valid", "test")}
        new = {label: table[~table[key].isin(tables["train"][key])] for label, table in later.items()}
        assert len(new["valid"]) + len(new["test"]) > 0
        cells = [with_share(new[label][key].nunique(), table[key].nunique()) for label, table in later.items()]
        expected.append([f"new {name}", *cells])
        cells = [with_share(len(new[label]), len(table)) for label, table in later.items()]
        expected.append([f"rows of new {name}", *cells])
    shown = shown_table(sampled, browser, tmp_path)
    assert shown_table(sampled, browser, tmp_path, 1)[1:] == expected
    everything = pd.concat(tables.values())
    assert shown[3][1] == f"{everything.customer_id.nunique():,}"
    assert shown[4][1] == f"{everything.article_id.nunique():,}"
    steps = values(sampled, "Rows after each step")
    not_drawn = steps[steps.text.str.endswith("rows not drawn by row_sampling")]
    assert list(not_drawn.start) == [len(everything)]
    # What dbt counted does not hang on the sample.
    chart = "Customers kept by min_interactions"
    assert list(values(sampled, chart).text) == list(values(whole, chart).text)


def test_shares_of_train_and_test_equal_the_tables(whole):
    def bands(numbers, edges, names):
        return pd.cut(numbers, [*edges, float("inf")], right=False, labels=names).astype(object)

    def fifths(numbers, of):
        """Bands that hold a fifth of `of` each."""
        edges = sorted({of.min(), *np.quantile(of.dropna(), [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")})[1:]
        between = [f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges)]
        return bands(numbers, [-float("inf"), *edges], [f"below {edges[0]:.4g}", *between, f"from {edges[-1]:.4g}"])

    train = whole.tables["train"]
    lines = train.customer_id.value_counts()
    histories = (
        [0, 1, 5, 10, 20, 50, 100],
        ["none", "1 to 4", "5 to 9", "10 to 19", "20 to 49", "50 to 99", "100 or more"],
    )
    for split in ("train", "test"):
        table = whole.tables[split]
        customers = pd.Series(table.customer_id.unique())
        groups = {
            "Lines in train": bands(customers.map(lines).fillna(0), *histories),
            "price": fifths(table.price, train.price),
            "sales_channel_id": table.sales_channel_id.astype(str),
            "product_group_name": table.product_group_name,
            "age": fifths(table.age, train.age).fillna("not known"),
        }
        for column, group in groups.items():
            shown = values(whole, column)
            shown = shown[(shown.split == split) & (shown.share > 0)].set_index("value").share
            expected = group.value_counts(normalize=True)
            assert shown.to_dict() == pytest.approx(expected.to_dict(), abs=1e-12), column


def test_the_distance_of_train_and_test_is_half_the_sum_of_the_differences(whole):
    assert list(drift(whole)) == ["Lines in train", "product_group_name", "age", "price", "sales_channel_id"]
    for title, spec in drift(whole).items():
        shares = values(whole, title).pivot(index="value", columns="split", values="share")
        assert spec["title"]["subtitle"] == f"{(shares.train - shares.test).abs().sum() / 2:.1%} apart"


def test_min_interactions_keeps_what_the_files_say(whole):
    lines = lines_of(whole.folder)
    parts = {"train": lines[lines.t_dat < "2020-09-08"], "later": lines[lines.t_dat >= "2020-09-08"]}
    chart = values(whole, "Customers kept by min_interactions")
    assert list(chart.text) == list(kept(parts, range(1, 21)))
    assert list(chart.text[4:]) == list(kept(whole.tables, range(5, 21)))
    assert list(chart.text[chart.chosen]) == [chart.text[4]]


def test_min_interactions_begins_at_1_where_no_record_tells_of_more(data_set, tmp_path):
    shutil.copy(data_set / "filtered_dataframe.parquet", tmp_path)
    alone = run(tmp_path)
    # What the file says of its own filter, nothing proves.
    assert list(values(alone, "Customers kept by min_interactions").text) == list(kept(alone.tables, range(1, 21)))
    assert "dbt left out those" not in json.dumps(alone.parts)


def test_empty_cells_equal_the_tables(whole, browser, tmp_path):
    page, _ = open_page(browser, whole.page, tmp_path, WIDTHS["desktop"])
    table = page.locator("table", has=page.get_by_text("column", exact=True)).last
    shown = [row.locator("td").all_inner_texts() for row in table.locator("tr").all()][1:]
    nulls = pd.DataFrame({label: table.isna().sum() for label, table in whole.tables.items()})
    nulls = nulls[nulls.any(axis=1)]
    assert shown == [
        [
            column,
            *(
                f"{count:,} ({100 * count / len(whole.tables[label]):.1f}\N{NO-BREAK SPACE}%)"
                for label, count in counts.items()
            ),
        ]
        for column, counts in nulls.iterrows()
    ]
    assert {"age", "club_member_status", "fashion_news_frequency"} <= set(nulls.index)


def test_page_is_small_and_names_no_customer(whole):
    assert len(whole.page.encode()) < 2_000_000
    text = json.dumps(whole.parts)
    for column in ("customer_id", "postal_code"):
        ids = whole.tables["train"][column].dropna().unique()
        assert len(ids) > 500
        assert not [one for one in ids if one in text]


def test_an_empty_test_split_has_a_card_too(data_set, browser, tmp_path):
    without_test = run(data_set, "--validation_end_date", "2020-12-01")
    page, errors = open_page(browser, without_test.page, tmp_path, WIDTHS["desktop"])
    assert errors == []
    assert page.locator("svg.marks").count() == len(charts(without_test)) == 5
    assert "Not to be trusted yet. Leak check: none of 6 rules broken; all rows; test IS EMPTY." in (
        page.locator("body").inner_text()
    )
    assert "test  no row" in without_test.out


def test_files_without_a_record_have_a_card_from_the_data_set_on(data_set, tmp_path):
    table = pq.read_table(data_set / "filtered_dataframe.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "filtered_dataframe.parquet")
    foreign = run(tmp_path)
    steps = list(values(foreign, "Rows after each step").text)
    assert steps == [
        f"{len(table):,} rows in the data set",
        *(f"{len(rows):,} rows in {label}" for label, rows in foreign.tables.items()),
    ]
    assert list(values(foreign, "Customers kept by min_interactions").text) == list(kept(foreign.tables, range(1, 21)))


def test_summary_on_the_terminal_fits_100_columns_and_equals_the_tables(whole):
    lines = whole.out[: whole.out.index("See it:")].splitlines()
    lines = [line for line in lines if "/end/" in line][1:-1]
    assert max(map(len, lines)) <= 100
    shown = [line.partition("] ")[2].split() for line in lines]
    tables = whole.tables
    assert shown[:3] == [
        [label, f"{table.t_dat.min():%Y-%m-%d}", "to", f"{table.t_dat.max():%Y-%m-%d}"]
        for label, table in tables.items()
    ]
    assert shown[3] == ["split", "train", "valid", "test"]
    assert shown[4] == ["rows", *(f"{len(table):,}" for table in tables.values())]
    assert shown[6] == ["units", *(f"{table.quantity.sum():,}" for table in tables.values())]
    assert shown[7] == ["customers", *(f"{table.customer_id.nunique():,}" for table in tables.values())]
    assert shown[-1] == ["leak", "check:", "none", "of", "6", "rules", "broken"]


def test_widest_figures_fit_the_terminal():
    from prep.report.summary import summary_text

    whole = {
        "rows": 31_256_357,
        "units": 31_256_357,
        "customers": 1_371_980,
        "articles": 105_542,
        "first_day": "2018-09-20",
        "last_day": "2020-09-07",
    }
    part = whole | {"rows": 266_364, "units": 266_364, "customers": 68_984, "new_customers": 5_572, "new_articles": 667}
    text = summary_text({"train": whole, "valid": part, "test": part}, {"rule": "passed"})
    assert max(map(len, text.splitlines())) <= 37
    assert "31,256,357 266,364 266,364" in text
    assert not [line for line in text.splitlines() if line.startswith(" ")]


def test_progress_is_on_the_card_while_the_step_works(tmp_path):
    (tmp_path / "slow_flow.py").write_text(SLOW_FLOW)
    environment = os.environ | {"PYTHONPATH": str(stages.ROOT)}
    process = subprocess.Popen([stages.PYTHON, "slow_flow.py", "run"], cwd=tmp_path, env=environment)
    seen = set()
    while process.poll() is None:
        time.sleep(0.2)
        for path in map(Path, glob.glob(f"{tmp_path}/**/*.data.json", recursive=True, include_hidden=True)):
            with contextlib.suppress(ValueError, FileNotFoundError):  # being written
                bars = json.loads(path.read_text())
                seen |= {part["value"] for part in components(bars) if part["type"] == "progressBar"}
    assert process.returncode == 0
    assert len(seen) >= 2 and min(seen) < 50
    assert max(seen) <= 50  # 400 of the 800 rows expected


def test_many_values_become_the_twenty_largest():
    from prep.report.charts import drift_chart

    counts = [("train", f"v{n:02}", 100 - n) for n in range(30)] + [("test", f"v{n:02}", 10) for n in range(30)]
    shown = pd.DataFrame(drift_chart("many", counts)._spec["data"]["values"])
    for _, of in shown.groupby("split"):
        assert of.share.sum() == pytest.approx(1) and len(of) == 20
        assert list(of.value) == [f"v{n:02}" for n in range(19)] + ["all others"]
