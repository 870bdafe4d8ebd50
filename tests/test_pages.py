"""README and docs/ are run: every block as printed, in a fresh copy of the project, and every printed line is compared.

Blocks of one page run one after the other in one shell, Python blocks in one interpreter. A block that
needs a service from outside is marked `<!-- needs: ... -->`, skipped, counted and said.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
import synthetic
from stages import DBT, PYTHON, ROOT, run

pytestmark = pytest.mark.docs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"^`([\w./]+)`:\n\n```(csv|yaml|sql)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^(?:<!-- needs: (.*?) -->\n)?```(console|bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    needs: str
    language: str
    text: str


def blocks(page):
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A fresh copy of the project's files with CSV files in it, as a reader has them."""
    folder = tmp_path_factory.mktemp("project")
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard").out.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    synthetic.generate(folder, 0.001, 0)
    return folder


@pytest.fixture
def with_a_run(project):
    """After the three commands of the README, with the environment of the tests. Each page has a run of its own."""
    environment = clean(project)
    for command, cwd in (
        ([PYTHON, "create_parquet_dataset.py"], project),
        ([DBT, "run", "--quiet"], project / "dbt"),
        ([PYTHON, "data_prep.py", "run", "--row_sampling", "0", "--tag", "march"], project),
    ):
        subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=True, capture_output=True)
    return project


def clean(project):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("METAFLOW", "DBT", "VIRTUAL"))
    }
    return environment | {"METAFLOW_USER": "me", "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}"}


def commands(text):
    """[(command, printed lines)] of a console block."""
    found = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip():
            found[-1][1].append(line)
    return found


def shape(line):
    """The line without Metaflow's time and task, and with its figures and blanks made alike."""
    line = re.sub(r"^\S+ \S+ \[[^\]]*\] ", "", line)
    return re.sub(r"\s+", " ", re.sub(r"[0-9]+(?:[.,][0-9]+)*", "0", line)).strip()


def check_printed(expected, printed):
    """Each expected line stands among the printed ones, in this order."""
    left = [shape(line) for line in printed.splitlines()]
    for line in expected:
        if line == "...":
            continue
        assert shape(line) in left, f"{line!r} is not among what was printed:\n{printed}"
        left = left[left.index(shape(line)) + 1 :]


def shell(page, project, which):
    """Run the console and bash blocks of the page in one shell, with a mark between the commands."""
    script, expected = ["set -e"], []
    for block in which:
        if block.language == "bash":
            script.append(block.text)
        else:
            for command, out in commands(block.text):
                script += [command, f"echo '-- mark {len(expected)} --'"]
                expected.append(out)
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=project, env=clean(project), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    parts = re.split(r"^-- mark \d+ --$", done.stdout, flags=re.MULTILINE)
    for out, printed in zip(expected, parts, strict=False):
        check_printed(out, printed)


def test_the_readme_from_its_first_block_to_its_last(project, tmp_path):
    """With its own environment, as a newcomer: make, venv and pip run as printed."""
    page = ROOT / "README.md"
    assert not (project / ".venv").exists() or (project / "filtered_dataframe.parquet").exists()
    shell(page, project, [block for block in blocks(page) if block.language != "python" and not block.needs])
    code = "\n".join(block.text for block in blocks(page) if block.language == "python")
    # polars is no package of the pipeline: its environment is that of the tests.
    done = run(
        PYTHON, "-c", code, cwd=project, **{"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(project), "METAFLOW_USER": "me"}
    )
    assert done.code == 0, done.err
    assert "t_dat" in done.out and "count" in done.out


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if blocks(page)], ids=lambda page: page.stem)
def test_every_block_of_a_page(page, with_a_run):
    """And the files that it asks the reader to write."""
    for path, _, text in FILE.findall(page.read_text()):
        (with_a_run / path).parent.mkdir(parents=True, exist_ok=True)
        (with_a_run / path).write_text(text)
    run_id = (with_a_run / ".metaflow" / "DataPrepFlow" / "latest_run").read_text()
    here = [block._replace(text=block.text.replace("RUN_ID", run_id)) for block in blocks(page) if not block.needs]
    python = "\n".join(block.text for block in here if block.language == "python")
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(with_a_run), "METAFLOW_USER": "me"}
    done = run(PYTHON, "-c", python, cwd=with_a_run, **store)
    assert done.code == 0, f"{page.name}\n{done.err}"
    shell(page, with_a_run, [block for block in here if block.language != "python"])


def test_what_is_not_run_is_marked_and_little():
    marked = [(page.name, block.needs) for page in PAGES for block in blocks(page) if block.needs]
    print(marked)
    assert len(marked) == 5 and {name for name, _ in marked} == {"engines.md", "your-own-shop.md"}
    assert sum(len(blocks(page)) for page in PAGES) > 12
    for page in PAGES:  # every fence with a language is one that is run
        fences = re.findall(r"^```(\w+)", page.read_text(), re.MULTILINE)
        assert len(fences) == len(blocks(page)) + len(FILE.findall(page.read_text())), page


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), (page.name, target)
