"""All three stages against the same computation in pandas, table by table and value by value."""

import csv
import datetime
import pickle
import random

import pandas as pd
import pandas_pipeline
import pytest
import stages
import synthetic
from conftest import SURROUNDINGS
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from pandas_pipeline import ARTICLE_COLUMNS, ARTICLE_TEXTS, CUSTOMER_COLUMNS, TRANSACTION_COLUMNS
from stages import artifacts, frame, parquet

from prep import duck
from prep.split.artifacts import stored_table
from prep.split.dataset import columns_query
from prep.split.splits import make_splits
from prep.split.star import write_splits

FILES = ("articles", "customers", "transactions_train")
RESULT = "filtered_dataframe.parquet"

# name: fraction, by, seed; the vars of dbt; the two dates of the flow
WAYS = {
    "hand_made": ((1, "customer", 0), {}, ()),
    "hm_real": ((1, "customer", 0), {}, ()),
    "synthetic 0": ((1, "customer", 0), {}, ()),
    "synthetic 1": ((0.5, "customer", 7), {"min_interactions": 3}, ()),
    "synthetic 2": (
        (0.6, "row", 1),
        {"training_end_date": "2020-08-01"},
        ("2020-08-15", "2020-09-01"),
    ),
}


class Way:
    """A data set after all three stages, beside the tables that pandas makes of it."""

    def __init__(self, made, sampling, variables, dates):
        self.made = made
        self.csv = {file: pandas_pipeline.read_csv(made.folder / f"{file}.csv") for file in FILES}
        self.kept = pandas_pipeline.sample(self.csv["transactions_train"], *sampling)
        self.filtered = pandas_pipeline.filtered_dataframe(
            self.csv["articles"], self.csv["customers"], self.kept, **variables
        )
        self.splits = pandas_pipeline.split(self.filtered, *dates)


@pytest.fixture(scope="module", params=WAYS)
def way(request, tmp_path_factory):
    sampling, variables, dates = WAYS[request.param]
    if request.param.startswith("synthetic"):
        folder = tmp_path_factory.mktemp("way")
        synthetic.generate(folder, 0.001, int(request.param[-1]))
        names = ("--training_end_date", "--validation_end_date")
        options = [text for pair in zip(names, dates, strict=False) for text in pair]
        made = stages.whole_way(folder, *sampling, variables, options)
    else:
        made = request.getfixturevalue(request.param)
    return Way(made, sampling, variables, dates)


def test_stage_1_keeps_every_cell_of_the_sample(way):
    for file, csv_table in (way.csv | {"transactions_train": way.kept}).items():
        table = parquet(way.made.folder / file)
        assert list(table) == list(csv_table)
        if "t_dat" in table:
            table["t_dat"] = table["t_dat"].astype(str)
        expected = csv_table.astype({name: table[name].dtype for name in table if table[name].dtype != "str"})
        pd.testing.assert_frame_equal(table, expected.reset_index(drop=True), check_exact=True)


def test_stage_2_is_the_table_of_pandas(way):
    pd.testing.assert_frame_equal(parquet(way.made.folder / RESULT), way.filtered, check_exact=True)


def test_stage_3_is_the_split_of_pandas(way):
    data = artifacts(way.made.prepared)
    assert list(data.label_to_dataset) == ["train", "valid", "test"]
    for label, expected in way.splits.items():
        assert len(expected) > 0
        pd.testing.assert_frame_equal(frame(data.label_to_dataset[label]), expected, check_exact=True)
    assert data.item_id_2_meta == pandas_pipeline.item_id_2_meta(way.filtered, way.csv["articles"])


def test_no_unit_and_no_money_is_lost(way):
    """quantity adds up to the rows of the customers who stay, price * quantity to their money."""
    if len(way.kept) == len(way.csv["transactions_train"]):
        table = parquet(way.made.folder / RESULT)
        stay = way.kept[way.kept["customer_id"].isin(set(table["customer_id"]))]
        stay = stay[stay["article_id"].isin(set(way.csv["articles"]["article_id"]))]
        assert table["quantity"].sum() == len(stay)
        money = (table["price"] * table["quantity"]).sum()
        assert money == pytest.approx(stay["price"].astype(float).sum(), rel=1e-12)


def test_the_real_rows_give_the_known_figures(hm_real):
    """What the rows' own README says; the tests above compare each value."""
    transactions = pandas_pipeline.read_csv(hm_real.folder / "transactions_train.csv")
    assert len(parquet(hm_real.folder / "transactions_train")) == len(transactions) == 31_662
    assert len(pandas_pipeline.purchase_lines(transactions)) == 28_768
    table = parquet(hm_real.folder / RESULT)
    assert (len(table), table["quantity"].sum()) == (27_645, 30_389)
    assert (table["customer_id"].nunique(), table["article_id"].nunique()) == (888, 16_578)
    tables = artifacts(hm_real.prepared).label_to_dataset
    assert [table.num_rows for table in tables.values()] == [27_231, 216, 198]


# Small tables that hypothesis invents

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=6).filter(
    lambda text: text != "nobody"
)
DAYS = ["2020-09-06", "2020-09-07", "2020-09-08", "2020-09-09",
        "2020-09-14", "2020-09-15", "2020-09-16"]  # fmt: skip
CODE = st.sampled_from(["-1", "0", "09", "1010016", "999999999999"])
CELLS = {
    "article_id": st.sampled_from(["0108775015", "0108775044", "0959461001", "0000000007"]),
    "product_code": st.sampled_from(["0108775", "0959461", "0000000"]),
    "FN": st.sampled_from(["", "", "1.0", "0"]),
    "Active": st.sampled_from(["", "", "1.0", "0.0"]),
    "age": st.sampled_from(["", "16", "25.5", "99.0"]),
    "customer_id": TEXT,
}
PURCHASES = {
    "t_dat": DAYS[:2] * 2 + DAYS,
    # The first three are one number, so such rows are units of one purchase.
    "price": ["0.1", "0.10", "1e-1", "0.05083050847457627", "0"],
    "sales_channel_id": ["1", "2"],
}


def rows(columns, key, **bounds):
    cells = {name: CELLS.get(name, (TEXT if name in ARTICLE_TEXTS else CODE)) for name in columns}
    for name in ("club_member_status", "fashion_news_frequency", "postal_code"):
        if name in cells:
            cells[name] = st.one_of(st.sampled_from(["", "None", "NONE", "NULL"]), TEXT)
    return st.lists(st.fixed_dictionaries(cells), unique_by=lambda row: row[key], **bounds)


@st.composite
def data_sets(draw):
    """The three tables as lists of dicts of text: ties, repeated rows, unknown ids, nulls.

    hypothesis invents the customers and articles; it likes short lists too much to invent enough
    purchases for them, so chance does that.
    """
    articles = draw(rows(ARTICLE_COLUMNS, "article_id", min_size=1, max_size=4))
    customers = draw(rows(CUSTOMER_COLUMNS, "customer_id", min_size=4, max_size=12))
    chance = random.Random(draw(st.integers(0, 2**32)))
    known = {
        "customer_id": [*(row["customer_id"] for row in customers), "nobody"],
        "article_id": [*3 * [row["article_id"] for row in articles], "0999999999"],
    }
    purchases = [
        {name: chance.choice(known.get(name, PURCHASES.get(name))) for name in TRANSACTION_COLUMNS}
        for _ in range(draw(st.integers(5, 15)) * len(customers))
    ]
    purchases += chance.choices(purchases, k=len(purchases) // 4)
    return dict(zip(FILES, (articles, customers, purchases), strict=True))


@settings(
    max_examples=10,
    deadline=None,
    # Each example is a run of dbt: to shrink a failing one would take minutes.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    derandomize=True,
)
@given(
    data_sets(),
    st.sampled_from([(1, "customer"), (0.7, "customer"), (0.7, "row")]),
    st.sampled_from(DAYS[1:4]),
    st.sampled_from(DAYS[4:]),
)
def test_invented_tables_come_out_as_in_pandas(tables, how, training_end, validation_end):
    folder = SURROUNDINGS / "invented"  # always the same, which spares dbt parsing its files
    folder.mkdir(exist_ok=True)
    for file, table in tables.items():
        with (folder / f"{file}.csv").open("w", newline="", encoding="utf-8") as output:
            writer = csv.DictWriter(output, table[0].keys(), lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    read = [pandas_pipeline.read_csv(folder / f"{file}.csv") for file in FILES]
    read[2] = pandas_pipeline.sample(read[2], *how)
    assume(len(read[2]))

    created = stages.create(how[0], "--by", how[1], "--data-dir", folder)
    assert created.code == 0, created.err
    filtered = pandas_pipeline.filtered_dataframe(*read, min_interactions=3)
    transformed = stages.dbt("run", folder, {"min_interactions": 3})
    assert (transformed.code == 0) == (len(filtered) > 0), transformed.out
    if filtered.empty:
        assert "the result has no row" in transformed.out
        return
    pd.testing.assert_frame_equal(parquet(folder / RESULT), filtered, check_exact=True)

    days = [datetime.datetime.fromisoformat(day) for day in (training_end, validation_end)]
    con, splits = duck.connect(), make_splits(*days, folder)
    query = columns_query(con, [folder / RESULT], stages.SHOP.columns)
    assert write_splits(con, query, splits, stages.SHOP, lambda rows: None) == len(filtered)
    expected = pandas_pipeline.split(filtered, *days)
    for split in splits:
        table, stored = expected[split.label], pickle.loads(pickle.dumps(stored_table(split, stages.SHOP)))
        pd.testing.assert_frame_equal(frame(stored), table, check_exact=True)
