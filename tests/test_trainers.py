"""The recipes of docs/trainers.md and the notebook of the first recommender, with the real libraries.

These libraries stand in an environment of their own; the run is the one of `make journey`, real purchases.
"""

import importlib.util
import json
import re
import sys

import metaflow
import pytest
from stages import ROOT, run

pytestmark = pytest.mark.trainers

JOURNEY = ROOT / "journey"
PAGE = (ROOT / "docs" / "trainers.md").read_text(encoding="utf-8")
# {the library: its block}; the first block is what all of them begin with.
START, *BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NAMES = re.findall(r"^## (.+)\n(?:(?!^##).*\n)*?```python", PAGE, re.MULTILINE)
HERE = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(JOURNEY), "METAFLOW_USER": "me"}

# Where pip found no CPU build of torch, what needs it is skipped, and pytest says so.
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no CPU build of torch here")


@pytest.fixture(scope="session")
def data():
    metaflow.namespace(None)
    metaflow.metadata(f"local@{JOURNEY}")
    return metaflow.Flow("DataPrepFlow").latest_successful_run.data


@pytest.fixture(scope="session")
def start(data):
    """What the first block defines."""
    names = {}
    exec(START, names)
    metaflow.metadata(f"local@{JOURNEY}")
    return names


@pytest.fixture
def after(start, monkeypatch):
    """A function that runs the block of a library and returns what it has defined."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")

    def ran(name):
        names = dict(start)
        exec(BLOCKS[NAMES.index(name)], names)
        return names

    return ran


def test_each_recipe_is_tried_and_short():
    assert len(NAMES) == len(BLOCKS) == 9
    tried = re.findall(r'after\("(.+?)"\)', (ROOT / "tests" / "test_trainers.py").read_text())
    assert sorted(tried) == sorted(NAMES)
    for name, block in zip(NAMES, BLOCKS, strict=True):
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("import ", "from "))]
        assert len(code) <= 8, name


def test_implicit(after, start):
    names = after("implicit")
    assert names["offered"].shape == (10, 12)
    assert set(names["items"].to_pylist()) <= set(start["train"][start["item"]].to_pylist())
    assert names["matrix"].sum() == pytest.approx(sum(start["train"]["quantity"].to_pylist()))


@needs_torch
def test_lenskit(after, start):
    offered = after("LensKit")["twelve"]
    assert len(offered) == 12 and set(offered.ids()) <= set(start["train"][start["item"]].to_pylist())


def test_rectools(after, start):
    table = after("RecTools")["table"]
    best = start["train"].to_pandas().groupby(start["item"])[start["user"]].nunique().nlargest(12)
    assert len(table) == 120 and set(table["item_id"]) == set(best.index)


def test_lightfm(after, data, start):
    scores = after("LightFM")["scores"]
    assert len(scores) == len(data.vocabulary[start["item"]]) and len(set(scores.tolist())) > 1000


def test_scikit_learn(after):
    names = after("scikit-learn")
    assert names["alike"].shape == (10, 5) and (names["distances"][:, 0] < 1e-6).all()  # each is nearest to itself


def test_hugging_face_datasets(after, start):
    names = after("Hugging Face datasets")
    assert {split: len(rows) for split, rows in names["dataset"].items()} == {
        "train": len(start["train"]), "test": len(start["test"])
    }  # fmt: skip
    assert names["rows"] == start["test"].slice(0, 3).to_pylist()


def test_polars(after, start):
    baskets = after("Polars")["baskets"]
    sizes = start["train"].to_pandas().groupby([start["user"], start["time"]]).size()
    assert len(baskets) == len(sizes) and baskets["lines"].sum() == sizes.sum()


def test_duckdb(after, start):
    often = after("DuckDB")["often"]
    assert often["lines"].tolist() == start["train"].to_pandas()[start["item"]].value_counts().head(12).tolist()


@needs_torch
def test_sequences(after, data, start):
    names = after("PyTorch: sequences")
    assert len(names["histories"]) == len(data.vocabulary[start["user"]])
    assert sum(map(len, names["histories"])) == len(start["train"])
    first = data.vocabulary[start["user"]][0].as_py()
    bought = [row[start["item"]] for row in start["train"].to_pylist()[:200_000] if row[start["user"]] == first]
    found = data.vocabulary[start["item"]].take(names["histories"][0].numpy() - 1).to_pylist()
    assert found[: len(bought)] == bought
    assert names["batch"].shape[0] == 64 and (names["batch"] == 0).any()


@needs_torch
def test_two_towers_learn_more_than_what_is_popular():
    done = run(sys.executable, "notebooks/two_towers.py", "journey", cwd=ROOT, **HERE)
    assert done.code == 0, done.err
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", done.out)]
    assert losses == sorted(losses, reverse=True) and len(losses) == 2
    towers, popular = map(float, re.findall(r"(?:two towers|last week) ([\d.]+)", done.out))
    assert towers > 1.1 * popular > 0.05
    said = re.search(r"two towers ([\d.]+), the best sellers of the last week ([\d.]+)", PAGE)
    assert float(said[1]) == pytest.approx(towers, abs=0.01) and float(said[2]) == pytest.approx(popular, abs=0.001)


def test_the_notebook_says_again_what_the_page_says(tmp_path):
    """The scores in docs/trainers.md are those that the notebook printed when it was committed."""
    import nbclient
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks" / "first_recommender.ipynb", as_version=4)
    committed = printed(json.loads(json.dumps(notebook)))
    assert "\n".join(committed) in PAGE
    with pytest.MonkeyPatch.context() as patch:
        for name, value in HERE.items():
            patch.setenv(name, value)
        nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(ROOT)}}).execute()
    again = printed(notebook)
    assert len(again) == 8 and committed[:2] == again[:2]
    for one, other in zip(committed[2:], again[2:], strict=True):
        left, right = cells(one), cells(other)
        assert left[0] == right[0]
        assert left[1:] == pytest.approx(right[1:], abs=0.01, rel=0.1)  # threads add up in any order


def printed(notebook):
    """The lines of the table that the notebook prints."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return [line for output in outputs for line in output.get("text", "").splitlines() if line.startswith("|")]


def cells(line):
    """The name in a line of the table, and its figures."""
    name = line.split("|")[1].strip()
    return [name, *(float(text.rstrip("%")) for text in re.findall(r"[\d.]+%?", line.split("|", 2)[2]))]
