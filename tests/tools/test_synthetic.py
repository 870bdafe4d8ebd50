"""Synthetic data have the form and the quirks of H&M's, and never overwrite foreign files."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

ARTICLES, CUSTOMERS, PURCHASES = synthetic.FILES
HEADERS = {
    ARTICLES: "article_id,product_code,prod_name,product_type_no,product_type_name,"
    "product_group_name,graphical_appearance_no,graphical_appearance_name,colour_group_code,"
    "colour_group_name,perceived_colour_value_id,perceived_colour_value_name,"
    "perceived_colour_master_id,perceived_colour_master_name,department_no,department_name,"
    "index_code,index_name,index_group_no,index_group_name,section_no,section_name,"
    "garment_group_no,garment_group_name,detail_desc",
    CUSTOMERS: "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code",
    PURCHASES: "t_dat,customer_id,article_id,price,sales_channel_id",
}
HM_REAL = Path(__file__).parents[3] / "shared" / "hm_real"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set of scale 0.001 and seed 0; tests only read it."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.generate(folder, 0.001, 0)
    return folder


def read(folder, name):
    """All cells as text, empty ones as ''."""
    return pd.read_csv(folder / name, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def articles(folder):
    return read(folder, ARTICLES)


@pytest.fixture(scope="module")
def customers(folder):
    return read(folder, CUSTOMERS)


@pytest.fixture(scope="module")
def purchases(folder):
    return read(folder, PURCHASES)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Form


def test_same_scale_and_seed_same_bytes(folder, tmp_path):
    synthetic.generate(tmp_path, 0.001, 0)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_gives_other_rows(folder, tmp_path):
    synthetic.generate(tmp_path, 0.001, 1)
    assert all(contents(tmp_path)[name] != contents(folder)[name] for name in synthetic.FILES)


@pytest.mark.parametrize("name", synthetic.FILES)
def test_header_line_ends_and_minimal_quoting(folder, name):
    text = (folder / name).read_bytes().decode("utf-8")
    assert text.startswith(HEADERS[name] + "\n")
    again = io.StringIO()
    csv.writer(again, lineterminator="\n").writerows(csv.reader(io.StringIO(text)))
    assert again.getvalue() == text


@pytest.mark.skipif(not HM_REAL.is_dir(), reason="needs real H&M rows")
@pytest.mark.parametrize("name", synthetic.FILES)
def test_headers_are_those_of_the_real_files(name):
    with (HM_REAL / name).open(encoding="utf-8") as file:
        assert file.readline() == HEADERS[name] + "\n"


@pytest.mark.parametrize("scale", [0.0001, 0.001, 0.002])
def test_rows_grow_with_scale(tmp_path, scale):
    made = synthetic.generate(tmp_path, scale, 3)
    assert made[PURCHASES]["rows"] == round(31_788_324 * scale) == len(read(tmp_path, PURCHASES))
    assert made[CUSTOMERS]["rows"] == round(1_371_980 * scale) == len(read(tmp_path, CUSTOMERS))
    assert made[ARTICLES]["rows"] == round(105_542 * scale**0.5) == len(read(tmp_path, ARTICLES))


def test_files_are_sorted(articles, customers, purchases):
    assert articles["article_id"].is_monotonic_increasing
    assert customers["customer_id"].is_monotonic_increasing
    keys = purchases["t_dat"] + purchases["customer_id"]
    assert keys.is_monotonic_increasing


def test_keys_are_unique_and_every_purchase_has_both(articles, customers, purchases):
    assert articles["article_id"].is_unique and customers["customer_id"].is_unique
    assert purchases["article_id"].isin(articles["article_id"]).all()
    assert purchases["customer_id"].isin(customers["customer_id"]).all()


# Quirks of the articles


def test_article_codes(articles):
    assert articles["article_id"].str.fullmatch(r"0\d{9}").all()
    assert (articles["product_code"] == articles["article_id"].str[:7]).all()
    assert articles["product_code"].nunique() < 0.7 * len(articles)
    assert "09" in set(articles["colour_group_code"])
    for column in (
        "product_type_no",
        "graphical_appearance_no",
        "colour_group_code",
        "perceived_colour_value_id",
        "perceived_colour_master_id",
    ):
        assert 1 <= (articles[column] == "-1").sum() < 0.02 * len(articles)


def test_article_texts(articles):
    described = articles["detail_desc"]
    assert (described == "").sum() == round(len(articles) * 416 / 105_542)
    assert not (articles.drop(columns="detail_desc") == "").any(axis=None)
    assert described.str.contains(",").mean() == pytest.approx(0.71, abs=0.05)
    assert described.str.contains('"').any()
    ascii_only = described.map(str.isascii)
    assert (~ascii_only).mean() == pytest.approx(0.077, abs=0.03)
    assert articles["index_name"].str.contains(",").any()


# Quirks of the customers


def test_customer_null_shares(customers):
    empty = (customers == "").mean()
    expected = {
        "customer_id": 0,
        "FN": 0.6524,
        "Active": 0.6615,
        "club_member_status": 0.0044,
        "fashion_news_frequency": 0.0117,
        "age": 0.0116,
        "postal_code": 0,
    }
    assert empty.to_dict() == pytest.approx(expected, abs=0.001)


def test_customer_values(customers):
    assert set(customers["FN"]) == set(customers["Active"]) == {"1.0", ""}
    assert (customers.loc[customers["Active"] == "1.0", "FN"] == "1.0").all()
    news = customers["fashion_news_frequency"].value_counts()
    assert set(news.index) == {"NONE", "Regularly", "Monthly", "None", ""} and news["None"] == 2
    assert set(customers["club_member_status"]) == {"ACTIVE", "PRE-CREATE", "LEFT CLUB", ""}
    age = pd.to_numeric(customers["age"]).dropna()
    assert age.between(16, 99).all() and age.median() == pytest.approx(32, abs=1)
    for column in ("customer_id", "postal_code"):
        assert customers[column].str.fullmatch("[0-9a-f]{64}").all()
    codes = customers["postal_code"].value_counts(normalize=True)
    assert codes.iloc[0] == pytest.approx(0.0877, abs=0.001) and codes.iloc[1] < 0.03


# Quirks of the purchases


def test_every_day_and_only_those(purchases):
    days = pd.date_range("2018-09-20", "2020-09-22").strftime("%Y-%m-%d")
    assert len(days) == 734
    assert sorted(set(purchases["t_dat"])) == list(days)


def test_price_is_the_repr_of_59000ths(purchases):
    price = purchases["price"].astype(float)
    thousandths = (price * 59_000).round().astype(int)
    assert [repr(k / 59_000) for k in thousandths] == list(purchases["price"])
    assert price.between(1.69e-5, 0.592).all() and price.mean() == pytest.approx(0.0278, rel=0.15)


def test_repeated_rows_and_channels(purchases):
    assert purchases.duplicated().mean() == pytest.approx(0.0936, abs=0.012)
    assert set(purchases["sales_channel_id"]) == {"1", "2"}
    assert (purchases["sales_channel_id"] == "2").mean() == pytest.approx(0.704, abs=0.02)


def test_customers_and_articles_have_long_tails(purchases):
    rows = purchases.groupby("customer_id").size()
    assert rows.quantile([0.25, 0.5, 0.75]).to_list() == pytest.approx([3, 9, 27], abs=2)
    assert rows.max() > 10 * rows.mean()
    sold = purchases.groupby("article_id").size().sort_values(ascending=False)
    assert sold.mean() > 2 * sold.median()
    assert sold.head(len(sold) // 100).sum() > 0.1 * sold.sum()


def test_baskets(purchases):
    rows = purchases.groupby(["customer_id", "t_dat"]).size()
    assert rows.median() == 2 and rows.mean() == pytest.approx(3.6, abs=0.2)


def test_without_baskets_nothing_repeats(tmp_path, purchases):
    """The hard rows of the benchmark: each purchase of any customer, on any day."""
    synthetic.generate(tmp_path, 0.001, baskets=False)
    hard = pd.read_csv(tmp_path / "transactions_train.csv", dtype=str)
    assert len(hard) == len(purchases)
    alone, in_baskets = (len(rows.groupby(["customer_id", "t_dat"])) / len(rows) for rows in (hard, purchases))
    assert alone > 0.95 > 1.5 * in_baskets
    assert hard.customer_id.value_counts().max() < 60 and hard.t_dat.is_monotonic_increasing


def test_year_and_week_have_a_rhythm(purchases):
    day = pd.to_datetime(purchases["t_dat"])
    assert day.dt.month.isin([5, 6, 7]).sum() > 1.2 * day.dt.month.isin([11, 12, 1]).sum()
    per_day = day.groupby(day.dt.day_name()).size()
    assert per_day["Wednesday"] > 1.05 * per_day["Tuesday"]


def test_some_never_buy_and_some_appear_in_the_last_weeks(articles, customers, purchases):
    buyers = customers["customer_id"].isin(purchases["customer_id"])
    assert (~buyers).sum() == round(len(customers) * 9_699 / 1_371_980)
    assert not articles["article_id"].isin(purchases["article_id"]).all()
    first = purchases["t_dat"] < "2020-09-01"
    for key in ("customer_id", "article_id"):
        late = purchases.loc[~first, key]
        assert 0.02 < (~late.drop_duplicates().isin(purchases.loc[first, key])).mean() < 0.4


@pytest.mark.parametrize(("scale", "at_least", "at_most"), [(0.0001, 1, 90), (0.001, 130, 450)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_day_is_empty_and_the_last_weeks_are_right(tmp_path, scale, at_least, at_most, seed):
    synthetic.generate(tmp_path, scale, seed)
    day = read(tmp_path, PURCHASES)["t_dat"]
    assert day.nunique() == 734
    assert at_least <= day.between("2020-09-08", "2020-09-14").sum() <= at_most
    assert at_least <= (day >= "2020-09-15").sum() <= at_most


# Tastes


def average_precision(recommended, bought):
    """AP@12 of one customer."""
    hit = np.isin(recommended[:12], list(bought))
    return (hit * np.cumsum(hit) / np.arange(1, len(hit) + 1)).sum() / min(len(bought), 12)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_item_to_item_beats_popularity(tmp_path, seed):
    """MAP@12 on the days from 2020-09-15, learned from those before 2020-09-08.

    Both models recommend what sold in the last four weeks; customers without history get the
    popular articles from both. Popularity may be that of all days or of the last four weeks.
    """
    synthetic.generate(tmp_path, 0.003, seed)
    bought = read(tmp_path, PURCHASES)[["t_dat", "customer_id", "article_id"]].drop_duplicates()
    train, test = bought[bought["t_dat"] < "2020-09-08"], bought[bought["t_dat"] >= "2020-09-15"]
    customer, customers = pd.factorize(train["customer_id"])
    article, articles = pd.factorize(train["article_id"])
    recent = train["t_dat"] >= "2020-08-11"
    truth = test.groupby("customer_id")["article_id"].agg(set)

    counts = [np.bincount(rows, minlength=len(articles)) for rows in (article, article[recent])]
    popular = [articles[np.argsort(-count, kind="stable")[:12]] for count in counts]
    by_popularity = max(np.mean([average_precision(top, bought) for bought in truth]) for top in popular)

    matrix = np.zeros((len(customers), len(articles)), np.float32)
    matrix[customer, article] = 1
    candidates = np.flatnonzero(counts[1])
    length = np.sqrt(matrix.sum(axis=0))
    cosine = matrix.T @ matrix[:, candidates] / length[:, None] / length[candidates]
    cosine[candidates, np.arange(len(candidates))] = 0  # not the article itself
    precision = []
    for customer_id, basket in truth.items():
        top = popular[1]
        row = customers.get_indexer([customer_id])[0]
        if row >= 0:
            score = matrix[row] @ cosine
            top = articles[candidates[np.argsort(-score, kind="stable")[:12]]]
        precision.append(average_precision(top, basket))
    assert np.mean(precision) > 1.5 * by_popularity


# Safety


@pytest.mark.parametrize("name", [name + end for name in synthetic.FILES for end in ("", ".gz")])
def test_a_foreign_file_is_refused_and_stays(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine\n")
    assert synthetic.main([str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert name in said.err and "another folder" in said.err
    assert contents(tmp_path) == {name: b"mine\n"}


def test_a_changed_file_is_foreign(tmp_path, capsys):
    synthetic.generate(tmp_path, 0.0001)
    data = bytearray((tmp_path / CUSTOMERS).read_bytes())
    data[-2] ^= 1  # same size
    (tmp_path / CUSTOMERS).write_bytes(data)
    before = contents(tmp_path)
    assert synthetic.main([str(tmp_path), "--scale", "0.0002"]) == 1
    assert CUSTOMERS in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_own_files_are_replaced_and_each_gets_a_line(tmp_path, capsys):
    synthetic.generate(tmp_path, 0.0001)
    assert synthetic.main([str(tmp_path), "--scale", "0.0002", "--seed", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(synthetic.FILES)
    assert lines[2].split()[1:3] == ["6,358", "rows"]
    marker = json.loads((tmp_path / synthetic.MARKER).read_text())
    assert (marker["scale"], marker["seed"]) == (0.0002, 5)
    assert len(contents(tmp_path)) == 4


@pytest.mark.parametrize("text", ["not json", "[]", '{"files": 1}', '{"files": {"a": 1}}', ""])
def test_a_foreign_marker_is_refused(tmp_path, capsys, text):
    (tmp_path / synthetic.MARKER).write_text(text)
    assert synthetic.main([str(tmp_path)]) == 1
    assert "not from synthetic.py" in capsys.readouterr().err
    assert contents(tmp_path) == {synthetic.MARKER: text.encode()}


def test_a_failure_on_the_way_changes_nothing(tmp_path, monkeypatch):
    synthetic.generate(tmp_path, 0.0001)
    before = contents(tmp_path)
    make_purchases = synthetic.make_purchases

    def stop_after_100_days(*arguments):
        for day, batch in enumerate(make_purchases(*arguments)):
            if day == 100:
                raise OSError("No space left on device")
            yield batch

    monkeypatch.setattr(synthetic, "make_purchases", stop_after_100_days)
    assert synthetic.main([str(tmp_path), "--scale", "0.0002"]) == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--scale", "0"),
        ("--scale", "-1"),
        ("--scale", "nan"),
        ("--scale", "inf"),
        ("--scale", "0.00001"),
        ("--seed", "-1"),
    ],
)
def test_bad_values_are_one_sentence(tmp_path, capsys, option, value):
    assert synthetic.main([str(tmp_path / "new"), f"{option}={value}"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and option in said.err and str(float(value))[:3] in said.err
    assert not (tmp_path / "new").exists()


def test_a_file_as_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert synthetic.main([str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'file'} is a file: give a folder.\n"
