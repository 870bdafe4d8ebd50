"""The tables of a run, taken as they are by the libraries that train on them.

These libraries stand in an environment of their own; the run is made by the pipeline's.
"""

import os
import re

import pandas as pd
import pytest
import synthetic
from stages import ROOT, run

pytestmark = pytest.mark.trainers

PIPELINE = ROOT / ".venv" / "bin"
CUSTOMERS = 50  # for whom each library recommends


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The artifacts of a run with more than 100,000 rows in train."""
    import metaflow

    folder = tmp_path_factory.mktemp("trainers")
    synthetic.generate(folder, 0.006, 0)
    for command, cwd in (
        ([PIPELINE / "python", ROOT / "create_parquet_dataset.py", "--data-dir", folder], ROOT),
        ([PIPELINE / "dbt", "run", "--vars", f"{{data_dir: {folder}}}"], ROOT / "dbt"),
        ([PIPELINE / "python", ROOT / "data_prep.py", "run", "--row_sampling", "0"], folder),
    ):
        done = run(*command, cwd=cwd)
        assert done.code == 0, done.out + done.err
    metaflow.namespace(None)
    metaflow.metadata(f"local@{os.environ['METAFLOW_DATASTORE_SYSROOT_LOCAL']}")
    return metaflow.Run("DataPrepFlow/" + re.search(r"run id: (\S+)", done.out)[1]).data


@pytest.fixture(scope="session")
def tables(data):
    tables = data.label_to_dataset
    assert tables["train"].num_rows > 100_000
    return tables


@pytest.fixture(scope="session")
def train(tables):
    return tables["train"].to_pandas()


def some(train):
    return train["customer_id"].drop_duplicates().head(CUSTOMERS)


def test_implicit(data, tables, train):
    import implicit
    import pyarrow.compute as pc
    from scipy.sparse import csr_matrix

    rows, columns = (
        pc.index_in(tables["train"][key], value_set=data.vocabulary[key]).to_numpy()
        for key in ("customer_id", "article_id")
    )
    matrix = csr_matrix((train["quantity"].to_numpy("float32"), (rows, columns)))
    model = implicit.als.AlternatingLeastSquares(factors=8, iterations=2, random_state=0)
    model.fit(matrix, show_progress=False)
    found, _ = model.recommend(range(CUSTOMERS), matrix[:CUSTOMERS], N=12)
    offered = set(data.vocabulary["article_id"].take(found.ravel()).to_pylist())
    assert found.shape == (CUSTOMERS, 12) and offered <= set(train["article_id"])


def test_lenskit(train):
    pytest.importorskip("lenskit.als", exc_type=ImportError)  # it needs torch
    from lenskit.als import ImplicitMFScorer
    from lenskit.batch import recommend
    from lenskit.data import from_interactions_df
    from lenskit.pipeline import topn_pipeline

    lines = train[["customer_id", "article_id"]].drop_duplicates()
    dataset = from_interactions_df(lines, user_col="customer_id", item_col="article_id")
    pipeline = topn_pipeline(ImplicitMFScorer(embedding_size=8, epochs=2))
    pipeline.train(dataset)
    lists = recommend(pipeline, list(some(train)), 12, n_jobs=1)
    assert len(lists) == CUSTOMERS
    for offered in lists.lists():
        assert len(offered) == 12 and set(offered.ids()) <= set(train["article_id"])


def test_rectools(train):
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import PopularModel

    lines = train.rename(columns={"customer_id": Columns.User, "article_id": Columns.Item, "t_dat": Columns.Datetime})
    lines[Columns.Weight] = lines["quantity"]
    dataset = Dataset.construct(lines[[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime]])
    model = PopularModel().fit(dataset)
    offered = model.recommend(users=some(train).to_numpy(), dataset=dataset, k=12, filter_viewed=True)
    assert offered[Columns.User].nunique() == CUSTOMERS
    assert set(offered[Columns.Item]) <= set(train["article_id"])


def test_hugging_face_datasets(tables, train):
    import datasets

    dataset = datasets.Dataset(tables["train"])
    assert len(dataset) == len(train)
    assert dataset.features["customer_id"].dtype == "string"
    garments = dataset.filter(lambda groups: [group.startswith("Garment") for group in groups],
                              input_columns="product_group_name", batched=True)  # fmt: skip
    assert len(garments) == train["product_group_name"].str.startswith("Garment").sum()
    assert dataset[0]["customer_id"] == train["customer_id"][0]
    assert dataset.sort("price")[0]["price"] == train["price"].min()


def test_pandas_2_and_polars(tables, train):
    """pandas of the version before, where categories went wrong most."""
    import polars as pl

    assert pd.__version__.startswith("2.")
    sizes = train.groupby(["customer_id", "t_dat"]).size()
    polars = pl.from_arrow(tables["train"]).group_by("customer_id", "t_dat").len()
    assert sizes.mean() == polars["len"].mean() > 1
    assert train["club_member_status"].fillna("UNKNOWN").notna().all()
    assert (train["customer_id"] == train["customer_id"].map(str)).all()
