"""Manners: natural commands, limits, interrupts, pipes, Metaflow's own traps, and closing lines that work as pasted."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import stages
import synthetic
from conftest import FIXTURE, copy_csv
from stages import DBT, PYTHON, ROOT, flow, run, run_of, snapshot

pytestmark = pytest.mark.faults

RESULT = "filtered_dataframe.parquet"


def dbt(*arguments, data=None, cwd=ROOT / "dbt", **environment):
    """dbt as it is typed."""
    more = ["--vars", f"{{data_dir: {data}}}"] if data else []
    return run(DBT, *arguments, *more, cwd=cwd, **environment)


def said(result, words):
    text = result.out + result.err
    assert result.code != 0 and "Traceback" not in text, text
    assert words in text, text


# dbt


def test_natural_dbt_commands_say_what_to_type_instead(made):
    before = snapshot(made)
    said(dbt("test", data=made), "`dbt build` makes them and runs their tests")
    said(dbt("test", "--select", "filtered_dataframe", data=made), "`dbt build` makes them and runs their tests")
    for command in ("run", "build"):
        said(dbt(command, "--select", "filtered_dataframe", data=made), "`--select +filtered_dataframe`")
    assert snapshot(made) == before
    assert dbt("run", "--select", "+filtered_dataframe", data=made).code == 0
    assert dbt("run", "--vars", json.dumps({"data_dir": str(made), "training_end_date": "2001-01-01"})).code != 0
    said(dbt("retry", data=made), "start the command again")


def test_dbt_from_the_root_of_the_project(made):
    """data_dir is seen from dbt/, wherever dbt was started."""
    away = ("--project-dir", "dbt", "--profiles-dir", "dbt")
    relative = os.path.relpath(made, ROOT / "dbt")
    result = dbt("build", *away, data=relative, cwd=ROOT)
    assert result.code == 0, result.out
    assert not (ROOT / ".tmp").exists()


def test_a_missing_folder_is_shown_by_its_absolute_path(tmp_path):
    said(dbt("run", data="no/such/folder"), f"the folder {ROOT}/dbt/no/such/folder is missing")
    here = copy_csv(FIXTURE, tmp_path / "data")
    result = run(PYTHON, ROOT / "create_parquet_dataset.py", "--data-dir", "nowhere", cwd=here)
    said(result, f"the folder {here}/nowhere is missing")
    (here / "articles.csv").unlink()
    said(run(PYTHON, ROOT / "create_parquet_dataset.py", cwd=here), f"is missing in {here}")
    said(flow("--dataset", "nowhere.parquet", cwd=here), f"the data set {here}/nowhere.parquet is missing")


# Limits, interrupts, pipes


@pytest.mark.parametrize("limit", ["abc", "512", "0", "", "-1", "0GB", "1e3GB", "GB", "2 GBs", "nan GB"])
def test_a_memory_limit_that_is_none_is_said(made, limit):
    words = f"the memory limit is {limit!r}: it must be a number with its unit, such as 2GB"
    environment = {"MEMORY_LIMIT": limit}
    said(run(PYTHON, ROOT / "create_parquet_dataset.py", "--data-dir", made, **environment), words)
    said(flow(cwd=made, **environment), words)
    if limit in ("abc", "512", ""):
        said(dbt("run", data=made, **environment), words)


def test_ctrl_c_in_stage_1_is_one_line(tmp_path):
    """At ten moments of a run; the old output stays, and nothing half is left."""
    synthetic.generate(tmp_path, 0.01, 0)
    command = [PYTHON, str(ROOT / "create_parquet_dataset.py"), "--data-dir", str(tmp_path)]
    started = time.monotonic()
    assert subprocess.run(command, capture_output=True).returncode == 0
    lasts = time.monotonic() - started
    before, interrupted = snapshot(tmp_path), 0
    other = shutil.copytree(tmp_path, tmp_path.with_name("other"))
    assert subprocess.run([*command[:-1], str(other), "--seed", "1", "0.5"], capture_output=True).returncode == 0
    whole = snapshot(other)
    for moment in range(10):
        process = subprocess.Popen(
            [*command, "--seed", "1", "0.5"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        first = process.stderr.readline()  # Python and its libraries are there
        time.sleep(lasts * moment / 10 * 0.4)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        if process.returncode == 0:  # it was done before
            subprocess.run(command, check=True, capture_output=True)
            continue
        interrupted += 1
        assert process.returncode == 130, first + err
        assert "Traceback" not in err and err.endswith("create_parquet_dataset.py: interrupted\n"), err
        left = snapshot(tmp_path)
        assert out == "" or left == whole
        assert left in (before, whole)  # whole, when it came behind the last rename
        if left == whole:
            subprocess.run(command, check=True, capture_output=True)
    assert interrupted >= 3


def test_a_reader_that_goes_away_ends_compare_runs_quietly(hand_made):
    first = run_of(hand_made.prepared).id
    second = flow("--row_sampling", 50, "--dataset", hand_made.folder / RESULT)
    assert second.code == 0
    command = f"'{PYTHON}' '{ROOT}/tools/compare_runs.py' {first} {run_of(second).id} | head -1"
    result = run("bash", "-c", f"for i in 1 2 3; do {command}; done")
    assert result.err == "" and len(result.out.splitlines()) == 3, result


# Metaflow's traps


def test_metaflows_own_card_beside_ours(made):
    result = run(PYTHON, ROOT / "data_prep.py", "--with", "card", "run", "--row_sampling", 0, cwd=made)
    assert result.code == 0, result.out + result.err
    page = run(
        PYTHON, ROOT / "data_prep.py", "card", "get", f"{run_of(result).id}/get_dataset", "--id", "data_set", cwd=made
    )
    assert page.code == 0 and len(page.out) > 100_000, page.err
    parts = re.findall(r'__MF_DATA__\["[^"]*"\] = "([^"]+)"', page.out)
    assert "is the split fair?" in stages.base64_text(parts[0])


def pasted(lines, cwd, **environment):
    """The lines in a shell that knows nothing of the run's environment."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("METAFLOW", "USER", "LOGNAME", "VIRTUAL"))
    }
    done = subprocess.run(lines, cwd=cwd, env=clean | environment, capture_output=True, text=True)
    return stages.Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("where", ["in the folder", "elsewhere"])
def test_the_closing_lines_work_as_pasted(made, tmp_path, where):
    """With the datastore in the folder, or where METAFLOW_DATASTORE_SYSROOT_LOCAL says; from a folder of their own."""
    folder = made if where == "in the folder" else tmp_path / "store of 'mine'"
    folder.mkdir(exist_ok=True)
    clean = dict(
        METAFLOW_USER="somebody else", METAFLOW_DATASTORE_SYSROOT_LOCAL=str(folder) if where == "elsewhere" else ""
    )
    if where == "in the folder":
        clean.pop("METAFLOW_DATASTORE_SYSROOT_LOCAL")
    result = pasted([PYTHON, ROOT / "data_prep.py", "run", "--row_sampling", "0"], made, **clean)
    assert result.code == 0, result.out + result.err
    lines = [re.sub(r"^\S+ \S+ \[[^\]]*\] ", "", line) for line in result.out.splitlines()]
    view = lines[lines.index("See it:") + 1]
    code = "\n".join(lines[lines.index("All done. Open the tables in Python:") + 1 :]).partition(
        "tables = data.label_to_dataset"
    )
    opened = pasted([PYTHON, "-c", code[0] + code[1] + "\nprint(tables['train'].num_rows)"], tmp_path)
    assert opened.out == "10\n", opened.err
    seen = pasted(["bash", "-c", view.replace(" card view ", " card get ")], "/")
    assert seen.code == 0 and len(seen.out) > 100_000, seen.err


def test_removing_a_run_leaves_nothing_of_it_and_all_of_the_others(made):
    """The block of the page, as printed."""
    page = (ROOT / "docs" / "keeping-the-disk-free.md").read_text()
    (block,) = [block for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "RUN_ID" in block]
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(made)}
    kept, removed = (
        re.search(r"run id: (\S+)", flow("--row_sampling", percent, cwd=made, **store).out)[1] for percent in (0, 60)
    )
    card = [PYTHON, ROOT / "data_prep.py", "card", "get"]
    for one in (kept, removed):
        assert run(*card, f"{one}/get_dataset", cwd=made, **store).code == 0
    before = {path for path in snapshot(made) if kept in str(path)}
    done = run("bash", "-ec", block.replace("RUN_ID", removed), cwd=made)
    assert done.code == 0, done.err
    left = snapshot(made)
    assert not [path for path, content in left.items() if removed in str(path) or removed.encode() in content]
    assert before <= set(left)
    script = (
        "import metaflow; metaflow.namespace(None)\n"
        "print([(run.id, run.data.label_to_dataset['train'].num_rows) for run in metaflow.Flow('DataPrepFlow')])"
    )
    opened = run(PYTHON, "-c", script, cwd=made, **store)
    assert opened.out == f"[('{kept}', 10)]\n", opened.err
    assert run(*card, f"{kept}/get_dataset", cwd=made, **store).code == 0


def test_a_tag_on_an_old_run_does_not_make_it_the_newest(made):
    """By the line of the page; what Metaflow calls the latest is the tagged one."""
    page = (ROOT / "docs" / "the-tables.md").read_text()
    (line,) = re.findall(r"^newest = .*$", page, re.MULTILINE)
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(made)}
    old, new = (
        re.search(r"run id: (\S+)", flow("--row_sampling", percent, cwd=made, **store).out)[1] for percent in (0, 100)
    )
    script = (
        "import time, metaflow; from metaflow import Flow; metaflow.namespace(None); time.sleep(1)\n"
        f"metaflow.Run('DataPrepFlow/{old}').add_tag('march')\n{line}\n"
        "print(Flow('DataPrepFlow').latest_successful_run.id, newest.id)"
    )
    result = run(PYTHON, "-c", script, cwd=made, **store)
    assert result.out.split() == [old, new], result


def test_make_demo_in_a_folder_with_a_blank(tmp_path):
    """Its last lines are three rows of test, and the command that printed them works again as pasted."""
    folder = tmp_path / "My Projects" / "it's"
    folder.mkdir(parents=True)
    for name in run("git", "ls-files").out.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("METAFLOW", "DBT", "MAKE"))}
    made = subprocess.run(["make", "demo", "SCALE=0.001"], cwd=folder, env=clean, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    lines = made.stdout.splitlines()
    command = lines[-5]
    assert command.endswith("notebooks/first_rows.py demo"), lines[-6:]
    again = pasted(["bash", "-c", command], folder)
    assert again.out.splitlines() == lines[-4:], again.err
    assert "t_dat" in lines[-4] and all(line.startswith("2020-09-") for line in lines[-3:])
