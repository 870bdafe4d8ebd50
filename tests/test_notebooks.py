"""The notebooks were run as they stand, and explore.ipynb runs again; test_trainers.py runs the recommender."""

import os
import re

import pytest
import stages
import synthetic

NOTEBOOKS = stages.ROOT / "notebooks"
if "CI" not in os.environ:  # requirements-notebooks.txt may be missing on a user's machine, not in CI
    for package in ("nbclient", "matplotlib", "polars"):
        pytest.importorskip(package)


@pytest.fixture(scope="module")
def datastore(tmp_path_factory):
    """A folder with runs of a small synthetic data set, which the notebooks find there."""
    folder = tmp_path_factory.mktemp("notebooks")
    synthetic.generate(folder, 0.003)
    assert stages.create("--data-dir", folder).code == 0
    assert stages.dbt("run", folder).code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(folder))
        for options in (("--row_sampling", 50, "--tag", "half"), ("--row_sampling", 0)):
            result = stages.flow(*options, cwd=folder)
            assert result.code == 0, result.out
        yield folder


def execute(name):
    """The notebook after running it as a whole; an error in a cell is one here."""
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOKS)}}).execute()
    return notebook


def texts(notebook):
    """What the code cells printed and showed, as plain text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.parametrize("name", [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))])
def test_committed_notebooks_were_run_from_top_to_bottom(name):
    import nbformat

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {
        output.output_type if output.output_type != "stream" else output.name
        for cell in cells
        for output in cell.outputs
    }
    assert kinds <= {"stdout", "execute_result", "display_data"}  # no error, no warning
    assert not re.search(r"/home/|/root/|/work/|/tmp/", texts(notebook))  # no path of one machine


def test_explore(datastore):
    text = texts(execute("explore"))
    newest, older = re.findall(r"^(\d+) +[\d-]+ [\d:]+ +[\d.]+ MB", text, re.MULTILINE)
    assert f"row_sampling: {{'{newest}': 0, '{older}': 50}}" in text
    assert re.search(r"are \[\d{8,9}, ", text)
