"""The tables of a run in every library, one form for each id, and artifacts that any pyarrow opens."""

import gzip
import io
import operator
import pickle
import pickletools
import tarfile

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
import stages
from conftest import FIXTURE
from stages import PYTHON, artifacts, flow, run, run_of

pytestmark = pytest.mark.faults

PUBLIC = {"importlib import_module", "operator methodcaller", "builtins bytes", "datetime datetime", "datetime date"}


@pytest.fixture(scope="module")
def data(large):
    """A run whose train table has several row groups: more than 100,000 rows."""
    result = flow("--row_sampling", 0, "--dataset", large / "filtered_dataframe.parquet")
    assert result.code == 0, result.out + result.err
    return artifacts(result)


@pytest.fixture(scope="module")
def tables(data):
    tables = data.label_to_dataset
    assert tables["train"].num_rows > 200_000
    return tables


@pytest.fixture(scope="module")
def truth(large):
    """The same rows by pandas alone, from the data set of stage 2."""
    frame = pd.read_parquet(large / "filtered_dataframe.parquet")
    return frame[frame.t_dat < "2020-09-08"], frame[frame.t_dat >= "2020-09-15"]


def test_text_is_plain_in_pyarrow(tables, truth):
    train, test = tables["train"], tables["test"]
    assert train.schema.field("customer_id").type == pa.string()
    sums = train.group_by("product_group_name").aggregate([("quantity", "sum")]).to_pydict()
    assert dict(zip(sums["product_group_name"], sums["quantity_sum"], strict=True)) == (
        truth[0].groupby("product_group_name").quantity.sum().to_dict()
    )
    joined = test.select(["customer_id", "price"]).join(
        train.group_by("customer_id").aggregate([([], "count_all")]), "customer_id", join_type="inner"
    )
    assert joined.num_rows == truth[1].customer_id.isin(truth[0].customer_id).sum()
    assert train.sort_by("customer_id")["customer_id"][0].as_py() == truth[0].customer_id.min()
    garments = pc.sum(pc.starts_with(train["product_group_name"], "Garment")).as_py()
    assert garments == truth[0].product_group_name.str.startswith("Garment").sum()
    known = pc.is_in(test["customer_id"], value_set=train["customer_id"])
    assert pc.all(known).as_py()
    for write, read in (
        (pa.ipc.new_file, lambda file: pa.ipc.open_file(file).read_all()),
        (pa.ipc.new_stream, lambda file: pa.ipc.open_stream(file).read_all()),
    ):
        sink = io.BytesIO()
        with write(sink, train.schema) as writer:
            writer.write_table(train)
        sink.seek(0)
        assert read(sink).equals(train)
    sink = io.BytesIO()
    pa.orc.write_table(test, sink)
    assert pa.orc.read_table(io.BytesIO(sink.getvalue())).num_rows == test.num_rows


def test_text_is_plain_in_pandas(tables, truth):
    train, test = (tables[label].to_pandas() for label in ("train", "test"))
    by_day = ["customer_id", "t_dat"]
    assert test.groupby(by_day).size().mean() == truth[1].groupby(by_day).size().mean()
    counts = test.product_group_name.value_counts()
    assert len(counts) == truth[1].product_group_name.nunique() and counts.min() > 0
    assert test.club_member_status.fillna("UNKNOWN").isna().sum() == 0
    letters = test.customer_id.map(lambda one: one[0])
    assert set(letters) == set(truth[1].customer_id.str[0])
    same = test.customer_id.reset_index(drop=True) == test.customer_id.sort_values().reset_index(drop=True)
    assert 0 < same.mean() <= 1
    both = pd.concat([train, test])
    assert both.customer_id.nunique() == train.customer_id.nunique()


def test_polars_duckdb_and_datasets(data, tables, truth):
    train = pl.from_arrow(tables["train"])
    known = pl.DataFrame({"customer_id": pl.from_arrow(data.vocabulary["customer_id"])})
    assert train.join(known, on="customer_id", how="inner").height == len(truth[0])
    articles = pl.DataFrame({"article_id": pl.from_arrow(data.vocabulary["article_id"])})
    assert train.join(articles, on="article_id", how="inner").height == len(truth[0])
    units = train.group_by("product_group_name").agg(pl.col("quantity").sum())
    assert dict(units.iter_rows()) == truth[0].groupby("product_group_name").quantity.sum().to_dict()
    test = tables["test"]  # noqa: F841 - DuckDB reads the variable
    ((rows, customers),) = duckdb.sql("select count(*), count(distinct customer_id) from test").fetchall()
    assert (rows, customers) == (len(truth[1]), truth[1].customer_id.nunique())


def test_one_id_has_one_form(data, tables):
    """What the tables hold, the vocabulary holds; str() of it is the key of item_id_2_meta."""
    for key in ("customer_id", "article_id"):
        assert data.vocabulary[key].type == tables["train"].schema.field(key).type
        assert data.vocabulary[key].to_pylist() == sorted(set(tables["train"][key].to_pylist()))
    meta = data.item_id_2_meta  # once: each access opens the artifact anew
    for table in tables.values():
        for article in set(table["article_id"].to_pylist()):
            assert meta[str(article)]["article_id"] == article
    for article in data.vocabulary["article_id"].to_pylist():
        assert str(article) in meta


def names_in(pickled):
    """The module and name of every global that the pickle names, by its opcodes."""
    names, texts = set(), []
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE", "UNICODE"):
            texts.append(argument)
        elif opcode.name == "MEMOIZE":
            continue
        elif opcode.name == "STACK_GLOBAL":
            names.add(" ".join(texts[-2:]))
        elif opcode.name == "GLOBAL":
            names.add(argument)
    return names


def blobs(result):
    """{artifact: its pickle} of the run, as it is on the disk."""
    root = stages.Path(stages.os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"]) / ".metaflow" / "DataPrepFlow" / "data"
    found = {}
    for step in run_of(result):
        for artifact in step.task:
            if not artifact.id.startswith("_") and artifact.id != "name":
                found[artifact.id] = gzip.decompress((root / artifact.sha[:2] / artifact.sha).read_bytes())
    return found


def test_an_artifact_names_public_modules_only(hand_made):
    pickles = blobs(hand_made.prepared)
    assert {"label_to_dataset", "valid", "test", "vocabulary", "item_id_2_meta", "lineage", "summary"} <= set(pickles)
    for name, pickled in pickles.items():
        assert names_in(pickled) <= PUBLIC, (name, names_in(pickled))
    assert names_in(pickles["test"]) == {"importlib import_module", "operator methodcaller", "builtins bytes"}
    assert pickle.loads(pickles["test"]).num_rows == 3
    private = pickle.dumps(pq.ParquetFile)  # the test sees what it looks for
    assert "pyarrow.parquet.core ParquetFile" in names_in(private)
    assert "operator methodcaller" in names_in(pickle.dumps(operator.methodcaller("x")))


MOVED = 'find .metaflow -name \'*.json\' -exec sed -i "s#:root:[^\\"]*/.metaflow#:root:$PWD/.metaflow#g" {} +'


def test_a_run_of_the_first_release_opens(tmp_path):
    """And one whose folder was moved: the documented line mends the absolute paths that Metaflow keeps."""
    with tarfile.open(FIXTURE / "run_of_the_first_release.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    script = (
        "import metaflow; metaflow.namespace(None); data = metaflow.Flow('DataPrepFlow').latest_successful_run.data\n"
        "print({label: t.num_rows for label, t in data.label_to_dataset.items()}, data.test.num_rows,\n"
        "      data.vocabulary['article_id'][0], len(data.item_id_2_meta), data.test['customer_id'][0])"
    )
    environment = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path)}
    assert run(PYTHON, "-c", script, cwd=tmp_path, **environment).code != 0
    mended = run("bash", "-ec", MOVED, cwd=tmp_path)
    assert mended.code == 0, mended.err
    result = run(PYTHON, "-c", script, cwd=tmp_path, **environment)
    assert result.code == 0, result.err
    assert result.out.startswith("{'train': 10, 'valid': 2, 'test': 3} 3 0")


def test_float_ids_are_refused(hand_made, tmp_path):
    """Ids as floats would be rounded in silence."""
    table = pq.ParquetFile(hand_made.folder / "filtered_dataframe.parquet").read()
    for column, kind in (("article_id", pa.float64()), ("article_id", pa.string()), ("customer_id", pa.int64()),
                         ("quantity", pa.float32()), ("t_dat", pa.string()), ("price", pa.string())):  # fmt: skip
        at = table.schema.get_field_index(column)
        values = pa.array([1] * table.num_rows).cast(kind)
        pq.write_table(table.set_column(at, column, values), tmp_path / "other.parquet")
        result = flow("--row_sampling", 0, "--dataset", tmp_path / "other.parquet")
        text = result.out + result.err
        assert result.code != 0 and "Traceback" not in text, text
        assert f"in its column {column}, which must be" in text and "cast the column" in text, text
