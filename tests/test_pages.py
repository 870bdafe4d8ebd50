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
ELSEWHERE = "trainers.md"  # whose Python blocks test_trainers.py runs, in the environment of those libraries
PYTHONS = [  # a name may be there that only tells how to install it
    name
    for name in ("python3.11", "python3.12", "python3.13")
    if shutil.which(name) and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0
]
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
    python = "\n".join(block.text for block in here if block.language == "python" and page.name != ELSEWHERE)
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(with_a_run), "METAFLOW_USER": "me"}
    done = run(PYTHON, "-c", python, cwd=with_a_run, **store)
    assert done.code == 0, f"{page.name}\n{done.err}"
    shell(page, with_a_run, [block for block in here if block.language != "python"])


def test_what_is_not_run_is_marked_and_little():
    marked = [(page.name, block.needs) for page in PAGES for block in blocks(page) if block.needs]
    print(marked)
    assert len(marked) == 6 and {name for name, _ in marked} == {"engines.md", "your-own-shop.md", "trainers.md"}
    assert sum(len(blocks(page)) for page in PAGES) > 12
    for page in PAGES:  # every fence with a language is one that is run
        fences = re.findall(r"^```(\w+)", page.read_text(), re.MULTILINE)
        assert len(fences) == len(blocks(page)) + len(FILE.findall(page.read_text())), page


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), (page.name, target)


def test_what_has_its_owner_elsewhere_is_on_the_pages_as_it_is_there():
    """`make pages` writes it: columns, options, vars, targets of make, scores."""
    import pages

    for path, text in pages.made().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run make pages"
    columns = run("git", "grep", "-c", "^| `", "docs/the-tables.md").out
    assert int(columns.rpartition(":")[2]) >= 24 + 25


def test_every_target_of_make_says_what_it_does():
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):[^#\n]*## ", text, re.MULTILINE))
    helped = run("make", "--no-print-directory", "help")  # make test-docs runs this as a make in a make
    assert helped.code == 0 and len(helped.out.splitlines()) == len(phony.split())


def test_every_option_and_var_that_a_page_names_exists():
    """An option in a block or in backquotes is one of ours, of dbt or of Metaflow."""
    known = "".join(
        run(*command, cwd=ROOT, METAFLOW_USER="me").out
        for command in (
            [PYTHON, "create_parquet_dataset.py", "--help"],
            [PYTHON, "data_prep.py", "run", "--help"],
            [PYTHON, "data_prep.py", "card", "get", "--help"],
            [DBT, "run", "--help"],
        )
    )
    ours = re.findall(
        r"(?:create_parquet_dataset|data_prep|dbt run|dbt build)[^\n`]*", "\n".join(p.read_text() for p in PAGES)
    )
    named = {option for line in ours for option in re.findall(r"--[a-z][a-z_-]+", line)}
    assert len(named) > 8
    assert {option for option in named if option not in known} <= {"--package-suffixes"}


def test_each_message_of_the_page_is_raised_by_a_test():
    """Its longest fixed part stands in a test, as what a command must say, or in the code that a test calls."""
    page = (ROOT / "docs" / "when-something-fails.md").read_text()
    messages = [
        cell for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for cell in re.findall(r"`([^`]+)`", row)
    ]
    assert len(messages) > 20

    def plain(text):
        return re.sub(r"[^a-z]+", " ", text.lower())

    tests = plain("".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.name != "test_pages.py"))
    for message in messages:
        parts = [plain(part).strip() for part in re.split(r"\.\.\.", message)]
        longest = max(parts, key=len)
        words = longest.split()
        assert any(" ".join(words[n : n + 3]) in tests for n in range(max(len(words) - 2, 1))), message


def test_the_site_is_built_strictly_and_opens_without_a_network(browser):
    """A broken link or a page that the menu lacks fails; no page asks for anything from elsewhere."""
    built = run("make", "docs")
    assert built.code == 0, built.out + built.err
    pages = sorted((ROOT / "site").glob("*.html"))
    assert {f"{page.stem}.html" for page in PAGES[1:]} <= {page.name for page in pages}
    asked = []
    page = browser.new_page()
    page.route("**/*", lambda route: (asked.append(route.request.url), route.continue_()))
    for path in pages:
        page.goto(path.as_uri())
        assert page.locator("h1").count() >= 1 or path.stem == "dbt-models"
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    page.goto((ROOT / "site" / "the-tables.html").as_uri())
    assert page.locator("table td", has_text="sales_channel_id").count() >= 1


@pytest.mark.parametrize("python", PYTHONS)
def test_the_demo_runs_on_each_python_that_is_here(python, project, tmp_path):
    """What is not here is not tried: the names of the trials say which were."""
    folder = tmp_path / "project"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".venv", "*.csv", "demo"), symlinks=True)
    done = run("make", "demo", f"PYTHON={python}", "SCALE=0.001", cwd=folder)
    assert done.code == 0, done.out[-2000:] + done.err[-2000:]
    assert "leak check: none of 6 rules broken" in done.out and "product_group_name" in done.out
    assert (folder / ".venv" / "lib" / python).is_dir()
