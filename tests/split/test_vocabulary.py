"""Dense ids: fitted on train only, in both directions, and no original id is lost."""

import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import stages

from prep.split.members import Members
from prep.split.splits import make_splits
from prep.split.star import write_splits


@pytest.fixture(scope="module")
def data(hand_made):
    return stages.artifacts(hand_made.prepared)


def numbers(column, known):
    """The lines of the module's docstring."""
    position = pc.index_in(column, value_set=known)
    return pc.add(pc.fill_null(position, -1), 1)


def test_it_holds_the_ids_of_train_as_in_the_tables_sorted(data, hand_made):
    train = data.label_to_dataset["train"]
    for key in ("customer_id", "article_id"):
        known = data.vocabulary[key].to_pylist()
        assert known == sorted(set(train[key].to_pylist()))
        assert type(data.vocabulary[key]) in (pa.StringArray, pa.Int64Array)
        assert data.vocabulary[key].type == train[key].type
    articles = pa.csv.read_csv(
        hand_made.folder / "articles.csv",
        convert_options=pa.csv.ConvertOptions(column_types={"article_id": pa.string()}),
    )["article_id"].to_pylist()
    assert {f"{one:010d}" for one in data.vocabulary["article_id"].to_pylist()} <= set(articles)


def test_ids_become_numbers_from_1_on_and_come_back(data):
    for label, table in data.label_to_dataset.items():
        customers = numbers(table["customer_id"], data.vocabulary["customer_id"])
        articles = numbers(table["article_id"], data.vocabulary["article_id"])
        for dense, key in ((customers, "customer_id"), (articles, "article_id")):
            known = data.vocabulary[key]
            originals = table[key].to_pylist()
            back = [known[number - 1].as_py() if number else None for number in dense.to_pylist()]
            assert back == [one if one in known.to_pylist() else None for one in originals]
            if label == "train":
                assert set(dense.to_pylist()) == set(range(1, len(known) + 1))
                assert known.take(pc.subtract(dense, 1)).to_pylist() == originals


def test_what_only_later_days_know_is_0(data):
    train, later = data.label_to_dataset["train"], data.valid.to_pylist() + data.test.to_pylist()
    new = {row["article_id"] for row in later} - set(train["article_id"].to_pylist())
    assert new
    known = data.vocabulary["article_id"]
    assert numbers(pa.array(sorted(new)), known).to_pylist() == [0] * len(new)


def test_the_order_does_not_depend_on_the_order_of_the_rows(hand_made, tmp_path):
    table = pq.ParquetFile(hand_made.folder / "filtered_dataframe.parquet").read()
    fitted = []
    for order in (range(len(table)), reversed(range(len(table)))):
        splits = make_splits(datetime.datetime(2020, 9, 8), datetime.datetime(2020, 9, 15), tmp_path)
        con = duckdb.connect()
        con.register("wide", table.take(list(order)))
        write_splits(con, "from wide", splits, stages.SHOP, lambda rows: None)
        fitted.append(Members(con, stages.SHOP, splits).vocabulary())
    assert fitted[0] == fitted[1]
    assert len(fitted[0]["article_id"]) > 3
