"""What breaks from outside: kills, full disks, damage, two at once. Run by `make test-faults`.

At the end a table says how often each fault was tried and how often the data survived it, and the
seed with which FAULTS_SEED repeats it all. Disks are made small, and folders read-only, where the
user may mount.
"""

import contextlib
import csv
import gc
import glob
import gzip
import io
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import metaflow
import pyarrow.parquet as pq
import pytest
import stages
import synthetic
from conftest import FAULTS, FIXTURE, copy_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from stages import DBT, FORK, PYTHON, ROOT, Result, check, create, create_process, dbt, flow, run, run_dbt

from prep.errors import PrepError
from prep.transform import plugin

pytestmark = pytest.mark.faults

SEED = int(os.environ.get("FAULTS_SEED", random.randrange(1_000_000)))
TABLES = ("articles", "customers", "transactions_train")
STAGE_1 = (*TABLES, "create_parquet_dataset.json")
STAGE_2 = ("filtered_dataframe.parquet", "filtered_dataframe.json", "items.parquet")
TEMPORARY = {".unfinished.tmp"}
of_stages_1_and_2 = pytest.mark.parametrize(
    ("stage", "names"), [("stage 1", STAGE_1), ("stage 2", STAGE_2)], ids=["stage 1", "stage 2"]
)
FRACTION, VARS = 0.9, {"min_interactions": 3}  # of the run that a fault meets; before it 0.5 and 5


class Count:
    """Counts tries, and gathers what did not survive."""

    def __init__(self):
        self.tried, self.notes, self.failures = 0, Counter(), []

    @contextlib.contextmanager
    def attempt(self, what):
        self.tried += 1
        try:
            yield
        except (AssertionError, pytest.fail.Exception) as error:
            self.failures.append(f"{what}: {error}")


@pytest.fixture
def count(request):
    """Attempts of one fault, for a row of the closing table; all have to survive."""
    count = Count()
    yield count
    name = re.sub(r"\[(.*)\]", r", \1", request.node.name.removeprefix("test_").replace("_", " "))
    notes = ", ".join(f"{number} {what}" for what, number in sorted(count.notes.items()))
    request.config.stash[FAULTS].append((name, count.tried, count.tried - len(count.failures), notes))
    assert count.tried
    assert not count.failures, "\n".join([f"FAULTS_SEED={SEED}", *dict.fromkeys(count.failures)])


@pytest.fixture
def rng(request):
    return random.Random(f"{SEED} {request.node.name}")


# The stages, as processes that can be killed


class Forked:
    """A dbt run, forked from a process that has imported dbt: the moments of a kill are all dbt's own."""

    def __init__(self, arguments, environment):
        self.output = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - end() closes it
        self.process = FORK.Process(target=run_dbt, args=(arguments, environment, self.output.name))
        self.process.start()

    returncode = property(lambda self: self.process.exitcode)

    def poll(self):
        return self.process.exitcode

    def wait(self):
        self.process.join()

    def kill(self):
        self.process.kill()


class Started(subprocess.Popen):
    """A command in a process group of its own, which is killed as a whole."""

    def __init__(self, command, cwd, environment):
        self.output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - end() closes it
        super().__init__(
            [str(part) for part in command],
            cwd=cwd,
            start_new_session=True,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def start(stage, folder, **environment):
    """Begin a run of the stage that can be killed; its output goes into a file."""
    if stage == "stage 1":
        return Started([PYTHON, *stage_1(folder)], ROOT, environment)
    if stage == "stage 2":
        return Forked(stage_2(folder), environment)
    return Started([PYTHON, ROOT / "data_prep.py", "run", "--row_sampling", 0], folder, environment)


def stage_1(folder):
    return [ROOT / "create_parquet_dataset.py", FRACTION, "--data-dir", folder]


def stage_2(folder):
    return ["run", "--vars", json.dumps({"data_dir": str(folder), **VARS})]


def end(process):
    process.wait()
    process.output.seek(0)
    with process.output as output:
        return Result(process.returncode, output.read(), "")


def kill(process):
    process.kill()
    return end(process)


def again(stage, folder):
    """The same run as start(), to its end."""
    if stage == "stage 1":
        return create(FRACTION, "--data-dir", folder)
    if stage == "stage 2":
        return dbt("run", folder, VARS)
    return flow("--row_sampling", 0, cwd=folder)


def contents(folder, names):
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def text_of(result):
    return result.out + result.err


def one_sentence(result, words):
    """Did the command fail, and say why once, without a traceback?"""
    text = text_of(result)
    assert result.code not in (0, None), text
    assert re.search(words, text), text
    assert "Traceback" not in text, text


# Data sets, prepared once and copied


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with 31,788 purchases after stages 1 and 2."""
    folder = tmp_path_factory.mktemp("prepared")
    synthetic.generate(folder, 0.001, 0)
    (folder / synthetic.MARKER).unlink()
    assert create(0.5, "--data-dir", folder).code == 0
    assert dbt("run", folder).code == 0
    return folder


@pytest.fixture(scope="session")
def apart(prepared, tmp_path_factory):
    """The same for runs of the flow, which leave their cards in the folder."""
    return shutil.copytree(prepared, tmp_path_factory.mktemp("apart") / "data")


@pytest.fixture
def folder(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "data")


def restore(prepared, folder):
    """Make the folder what it was; the same path again saves dbt a new parse."""
    shutil.rmtree(folder)
    shutil.copytree(prepared, folder)


@pytest.fixture(scope="session")
def undisturbed(prepared, apart, tmp_path_factory):
    """What each stage leaves when nothing comes between, and how long it took."""
    left = {}
    for stage, names in (("stage 1", STAGE_1), ("stage 2", STAGE_2)):
        folder = tmp_path_factory.mktemp("undisturbed") / "data"
        shutil.copytree(prepared, folder)
        started = time.monotonic()
        process = start(stage, folder)
        assert end(process).code == 0
        left[stage] = contents(folder, names), time.monotonic() - started
    started = time.monotonic()
    result = flow("--row_sampling", 0, cwd=apart)
    assert result.code == 0, text_of(result)
    left["stage 3"] = tables_of(run_id(result)), time.monotonic() - started
    return left


def run_id(result):
    return re.search(r"run-id (\d+)", result.out)[1]


def tables_of(run, root=None):
    """Everything a run is read for, comparable; None when it did not end well."""
    metaflow.namespace(None)
    metaflow.metadata(f"local@{root or os.environ['METAFLOW_DATASTORE_SYSROOT_LOCAL']}")
    run = metaflow.Run(f"DataPrepFlow/{run}")
    if not run.successful:
        return None
    return {artifact.id: artifact.data for artifact in run.end_task.artifacts if not artifact.id.startswith("_")}


@pytest.fixture(scope="session")
def half(apart, tmp_path_factory):
    """A datastore that holds a single run, of half the rows."""
    root = tmp_path_factory.mktemp("half")
    result = flow("--row_sampling", 50, cwd=apart, METAFLOW_DATASTORE_SYSROOT_LOCAL=str(root))
    assert result.code == 0, text_of(result)
    return root


@pytest.fixture
def datastores(half, tmp_path):
    """One copy of that after the other: in a used one equal artifacts would be there already."""
    return (shutil.copytree(half, tmp_path / f"datastore{i}") for i in itertools.count())


def stored(root):
    """The files of the datastore, without those that only name the latest run."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("latest"))
    return {path: path.read_bytes() for path in files}


def unharmed(before):
    return {path: path.read_bytes() for path in before if path.exists()} == before


# kill -9


@of_stages_1_and_2
def test_kill(stage, names, prepared, folder, undisturbed, rng, count):
    new, seconds = undisturbed[stage]
    old, before = contents(prepared, names), set(os.listdir(prepared))
    for i in range(30):
        restore(prepared, folder)
        process = start(stage, folder)
        if i % 3:  # most of the time nothing is written yet: wait for the moment when it is
            while process.poll() is None and not TEMPORARY & set(os.listdir(folder)):
                time.sleep(0.001)
            moment = rng.uniform(0, 0.3 if stage == "stage 1" else 0.06)
        else:
            moment = rng.uniform(0, seconds)
        time.sleep(moment)
        kill(process)
        with count.attempt(f"{moment:.3f} s"):
            if TEMPORARY & set(os.listdir(folder)):
                count.notes["with a temporary file left"] += 1
            left = contents(folder, names)
            if left in (old, new):
                count.notes["old output" if left == old else "new output"] += 1
            else:  # between two renames: each file is whole, and the next stage knows
                count.notes["between renames"] += 1
                assert all(left[name] in (old[name], new[name]) for name in names)
                refused_by_next(stage, folder)
            assert set(os.listdir(folder)) - before <= TEMPORARY
            result = again(stage, folder)
            assert result.code == 0, text_of(result)
            assert contents(folder, names) == new
            assert set(os.listdir(folder)) == before


def refused_by_next(stage, folder):
    if stage == "stage 1":
        one_sentence(dbt("run", folder), "run `python create_parquet_dataset.py` again")
    else:
        one_sentence(flow("--row_sampling", 0, cwd=folder), "run `cd dbt && dbt run` again")


KILLED_AT_A_RENAME = """
import os, runpy, signal, sys
_, left, folder, *command = sys.argv
left, rename = int(left), os.replace
def replace(source, target):
    global left
    if os.path.dirname(os.fspath(target)) == folder:
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    rename(source, target)
os.replace, sys.argv = replace, command
sys.path.insert(0, os.path.dirname(command[0]))
runpy.run_path(command[0], run_name='__main__')
"""


@of_stages_1_and_2
def test_kill_at_each_rename(stage, names, prepared, folder, undisturbed, count):
    new, _ = undisturbed[stage]
    old = contents(prepared, names)
    command = stage_1(folder) if stage == "stage 1" else [DBT, *stage_2(folder)]
    for i in range(len(names) + 1):
        restore(prepared, folder)
        result = run(PYTHON, "-c", KILLED_AT_A_RENAME, i, folder, *command, cwd=ROOT / "dbt")
        with count.attempt(f"rename {i}"):
            assert result.code == (0 if i == len(names) else -signal.SIGKILL), text_of(result)
            left = contents(folder, names)
            assert all(left[name] in (old[name], new[name]) for name in names)
            if i in (0, len(names)):
                assert left == (new if i else old)
            else:
                refused_by_next(stage, folder)
            result = again(stage, folder)
            assert result.code == 0, text_of(result)
            assert contents(folder, names) == new


def test_a_run_that_is_killed_while_its_artifacts_are_listed(datastores):
    """Metaflow calls it successful. To ask for a name that is not listed is an error; the others are whole."""
    root = next(datastores)
    (listed,) = root.glob(".metaflow/DataPrepFlow/*/end/*/_meta/0_artifact_valid.json")
    listed.unlink()
    metaflow.namespace(None)
    metaflow.metadata(f"local@{root}")
    data = metaflow.Flow("DataPrepFlow").latest_successful_run.data
    with pytest.raises(AttributeError) as error:
        _ = data.valid
    assert f"{error.typename}: {error.value}" == "AttributeError: valid"
    assert data.label_to_dataset["valid"].num_rows > 0


def test_kill_stage_3(apart, datastores, undisturbed, rng, count):
    tables, seconds = undisturbed["stage 3"]
    reading = threading.Lock()  # the Client looks into one datastore at a time

    def attempt(i, root, moment):
        before = stored(root)
        temporary = root / "tmp"
        temporary.mkdir()
        surroundings = {"TMPDIR": str(temporary), "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(root)}
        process = start("stage 3", apart, **surroundings)
        if i % 3:  # in get_dataset, or when its artifacts are stored
            while process.poll() is None and not glob.glob(f"{temporary}/*/*.parquet"):
                time.sleep(0.005)  # glob.glob() bears a folder that goes meanwhile
            moment /= 2
        time.sleep(moment)
        killed = kill(process)
        with count.attempt(f"{moment:.3f} s"):
            assert unharmed(before)
            left = re.search(r"run-id (\d+)", killed.out)
            if left and (root / ".metaflow" / "DataPrepFlow" / left[1]).exists():
                with reading:
                    left = tables_of(left[1], root)
                # Metaflow lists the artifacts of a run that has ended one by one, `_success` among the first.
                missing = set(tables) - set(left or ())
                count.notes["broken off" if left is None else "listed in part" if missing else "whole"] += 1
                assert left is None or left == {name: tables[name] for name in left}
            of_the_killed = set(temporary.iterdir())  # TMPDIR is the system's to clean
            result = flow("--row_sampling", 0, cwd=apart, **surroundings)
            assert result.code == 0, text_of(result)
            with reading:
                assert tables_of(run_id(result), root) == tables
            assert set(temporary.iterdir()) == of_the_killed
        shutil.rmtree(root)

    with ThreadPoolExecutor(2) as pool:  # each in a datastore of its own
        list(pool.map(attempt, range(30), datastores, [rng.uniform(0, seconds) for _ in range(30)]))


# Full disk


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


PAGE = 4096


@contextlib.contextmanager
def pages_free(disk, pages):
    """Fill the disk up to so many pages."""
    filler = disk / "filler"
    gc.collect()  # a file of the attempt before that is still open would be freed in the midst of this one
    free = os.statvfs(disk).f_bavail
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, (free - pages)) * PAGE)
    try:
        yield
    finally:
        filler.unlink()


@of_stages_1_and_2
def test_full_disk(stage, names, prepared, small_disk, undisturbed, rng, count):
    new, _ = undisturbed[stage]
    folder = shutil.copytree(prepared, small_disk / "data")
    old, before = contents(folder, names), set(os.listdir(folder))
    need = sum(-(-len(content) // PAGE) for content in new.values())
    free = [0, 1, 2, *rng.sample(range(3, need - 3), 9), *range(need - 3, need + 1)]
    for pages in free:
        with count.attempt(f"{pages} of {need} pages free"):
            with pages_free(small_disk, pages):
                result = again(stage, folder)
            if pages == need:
                assert result.code == 0, text_of(result)
                assert contents(folder, names) == new
            else:
                one_sentence(result, "No space left on device")
                assert contents(folder, names) == old
            assert set(os.listdir(folder)) == before


def test_file_size_limit_stage_1(prepared, folder, undisturbed, rng, count):
    """The same for one who may not mount: no file may grow beyond a size."""
    old, new = contents(prepared, STAGE_1), undisturbed["stage 1"][0]
    largest = max(map(len, new.values()))
    for size in sorted(rng.sample(range(largest), 12)):
        with count.attempt(f"{size} bytes"):
            done = subprocess.run(
                [PYTHON, ROOT / "create_parquet_dataset.py", str(FRACTION), "--data-dir", folder],
                capture_output=True,
                text=True,
                preexec_fn=lambda size=size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
            )
            one_sentence(Result(done.returncode, done.stdout, done.stderr), "File too large")
            assert contents(folder, STAGE_1) == old
            assert not TEMPORARY & set(os.listdir(folder))


def test_full_disk_stage_3(apart, small_disk, undisturbed, rng, count):
    """There is no room for the splits on their way."""
    for pages in (1, 8, *rng.sample(range(9, 25), 3)):
        with count.attempt(f"{pages} pages free"):
            with pages_free(small_disk, pages):
                result = flow("--row_sampling", 0, cwd=apart, TMPDIR=str(small_disk))
            one_sentence(result, "cannot be written to a temporary folder .*No space left on device.* TMPDIR")
            assert not list(small_disk.iterdir())
            assert tables_of(run_id(result)) is None


def test_full_datastore_stage_3(apart, datastores, small_disk, undisturbed, rng, count):
    """Metaflow itself writes there, and says so in its own way."""
    root = shutil.copytree(next(datastores), small_disk / "datastore")
    before = stored(root)
    surroundings = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(root)}
    for pages in (1, 8, *rng.sample(range(9, 80), 4)):
        with count.attempt(f"{pages} pages free"):
            with pages_free(small_disk, pages):
                result = flow("--row_sampling", 0, cwd=apart, **surroundings)
            assert result.code != 0 and "No space left on device" in text_of(result), text_of(result)
            assert unharmed(before)
    result = flow("--row_sampling", 0, cwd=apart, **surroundings)
    assert result.code == 0, text_of(result)
    assert tables_of(run_id(result), root) == undisturbed["stage 3"][0]


# No permission


@pytest.fixture
def read_only(folder):
    """The prepared folder, in which nothing may be written; modes do not stop root."""
    if os.geteuid():
        folder.chmod(0o555)
    else:
        mounted = [
            subprocess.run(["mount", *options, folder], capture_output=True).returncode
            for options in (["--bind", folder], ["-o", "remount,bind,ro"])
        ]
        if any(mounted):
            pytest.skip("this root may not mount a folder read-only")
    yield folder
    if os.geteuid():
        folder.chmod(0o755)
    else:
        subprocess.run(["umount", folder], check=True)


@of_stages_1_and_2
def test_no_permission(stage, names, prepared, read_only, count):
    with count.attempt(stage):
        one_sentence(again(stage, read_only), "Read-only file system|Permission denied")
        assert contents(read_only, names) == contents(prepared, names)


def test_no_permission_stage_3(read_only, undisturbed, count):
    with count.attempt("the data set's folder is only read"):
        result = flow("--row_sampling", 0, cwd=read_only)
        assert result.code == 0, text_of(result)
        assert tables_of(run_id(result)) == undisturbed["stage 3"][0]
    with count.attempt("the datastore may not be written, which Metaflow says in its own way"):
        result = flow("--row_sampling", 0, cwd=read_only, METAFLOW_DATASTORE_SYSROOT_LOCAL=str(read_only / "sub"))
        assert result.code != 0


# Cut input, damaged files


@pytest.mark.parametrize("compressed", [False, True], ids=["csv", "csv.gz"])
def test_cut_input(compressed, folder, rng, count):
    before = contents(folder, (*STAGE_1, "rejects.csv"))
    for i in range(20):
        path = folder / f"{TABLES[i % 3]}.csv"
        whole = path.read_bytes()
        while True:
            at = rng.randrange(len(whole))
            if whole[at - 1] != ord("\n"):  # inside a line
                break
        if compressed:
            cut = path.with_suffix(".csv.gz")
            packed = gzip.compress(whole)
            cut.write_bytes(packed[: rng.randrange(len(packed))])
            path.unlink()
        else:
            path.write_bytes(whole[:at])
        with count.attempt(f"{path.name} at byte {at}"):
            one_sentence(create("--data-dir", folder, "--max-bad-rows", i % 2 * 10), re.escape(path.name))
            assert contents(folder, (*STAGE_1, "rejects.csv")) == before
        path.with_suffix(".csv.gz").unlink(missing_ok=True)
        path.write_bytes(whole)


def flipped(path, rng, tail=None):
    """Change one byte of the file, or of its last `tail`, in a JSON file one that is no blank; returns where."""
    content = bytearray(path.read_bytes())
    blank = b" \n" if path.suffix == ".json" else b""
    at = rng.choice([at for at in range(len(content))[-tail if tail else 0 :] if content[at] not in blank])
    content[at] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    return at


def refused_by_stage_2(folder, words, whole, count):
    """By the function with which dbt begins, and `whole`, by dbt run itself."""
    with pytest.raises(PrepError, match=words):
        plugin.checked_inputs(stages.SHOP, folder)
    if whole:
        count.notes["by dbt run itself"] += 1
        one_sentence(dbt("run", folder), words)


def refused_by_stage_3(folder, words, whole, count):
    """By the two functions with which the flow begins, and `whole`, by the flow itself."""
    path = folder / STAGE_2[0]
    with pytest.raises(PrepError, match=words):
        check(path)
    if whole:
        count.notes["by the flow itself"] += 1
        one_sentence(flow("--row_sampling", 0, cwd=folder), words)


@pytest.mark.parametrize("name", STAGE_1)
def test_damaged_before_stage_2(name, prepared, folder, rng, count):
    before = contents(folder, STAGE_2)
    for i in range(20):
        at = flipped(folder / name, rng)
        with count.attempt(f"byte {at}"):
            refused_by_stage_2(folder, "run `python create_parquet_dataset.py` again", i % 10 == 0, count)
            assert contents(folder, STAGE_2) == before
        shutil.copyfile(prepared / name, folder / name)


@pytest.mark.parametrize("name", STAGE_2)
def test_damaged_before_stage_3(name, prepared, folder, rng, count):
    for i in range(20):
        at = flipped(folder / name, rng)
        with count.attempt(f"byte {at}"):
            refused_by_stage_3(folder, "`cd dbt && dbt run`", i % 5 == 0, count)
        shutil.copyfile(prepared / name, folder / name)


def test_damaged_footer_before_stage_3(prepared, folder, rng, count):
    """There DuckDB reads before the content is checked, so it meets the damage first."""
    path = folder / STAGE_2[0]
    footer = int.from_bytes(path.read_bytes()[-8:-4], "little") + 8
    for i in range(200):
        at = flipped(path, rng, footer)
        with count.attempt(f"byte {at}"):
            refused_by_stage_3(folder, "`cd dbt && dbt run`|run dbt again", i < 2, count)
        shutil.copyfile(prepared / path.name, path)


# Hostile text

HOSTILE = [
    '"',
    '""',
    "'",
    ",",
    ";",
    "\t",
    "\0",
    "\r",
    "\n",
    "\r\n",
    "\ufeff",
    "\u00fc",
    "\u2028",
    "\U0001f600",
    "nan",
    "inf",
    "-0",
    "1e5",
    "1_0",
    " 1",
    "\uff11",
    "NULL",
    "\\",
    '\\"',
    "#",
    "x" * 200_000,
    "2020-02-30",
    "2020-9-8",
    "0100000001",
    "1" * 64,
]


TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=6)).map(lambda text: text.encode(errors="surrogatepass"))
PIECES = st.one_of(TEXTS, st.binary(max_size=3), st.sampled_from([b"\xff", b"\xed\xa0\x80", b"\xc3"]))
KINDS = [
    "cell",
    "quoted",
    "insert",
    "delete",
    "line",
    "double line",
    "empty line",
    "swap header",
    "double header",
    "bom",
    "crlf",
    "one crlf",
    "long",
]
# What is done, where in the file (as a part of it), at which cell, and with which bytes.
CHANGES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.floats(0, 0.999), st.integers(0, 4), PIECES), min_size=1, max_size=3
)


def changed(content, kind, place, number, text):
    """The content of a CSV file after one change."""
    if kind in ("insert", "delete"):
        at = int(place * len(content))
        return content[:at] + (text + content[at:] if kind == "insert" else content[at + number :])
    lines = content.split(b"\n")
    at = int(place * max(1, len(lines) - 1))
    cells = lines[at].split(b",")
    if kind in ("cell", "quoted", "long"):
        quoted = b'"' + (b"long, " * 180_000 if kind == "long" else text.replace(b'"', b'""')) + b'"'
        cells[number % len(cells)] = text if kind == "cell" else quoted
        lines[at] = b",".join(cells)
    elif kind == "line":
        lines.insert(at, text)
    elif kind == "double line":
        lines.insert(at, lines[at])
    elif kind == "empty line":
        lines.insert(at, b"")
    elif kind == "swap header":
        names = lines[0].split(b",")
        names[0], names[number % len(names)] = names[number % len(names)], names[0]
        lines[0] = b",".join(names)
    elif kind == "double header":
        lines[0] += b"," + lines[0].split(b",")[0]
    elif kind == "bom":
        lines[0] = b"\xef\xbb\xbf" + lines[0]
    elif kind == "crlf":
        lines = [line + b"\r" for line in lines[:-1]] + lines[-1:]
    elif kind == "one crlf":
        lines[at] += b"\r"
    return b"\n".join(lines)


NUMBERS = {
    "articles": {
        "product_type_no",
        "graphical_appearance_no",
        "colour_group_code",
        "perceived_colour_value_id",
        "perceived_colour_master_id",
        "department_no",
        "index_group_no",
        "section_no",
        "garment_group_no",
    },
    "customers": {"FN", "Active", "age"},
    "transactions_train": {"price", "sales_channel_id"},
}


def same(table, text, value):
    """Is the value in the parquet file what the CSV file says?"""
    column, name = text
    if value is None:
        return name == ""
    if column in NUMBERS[table]:
        return float(name) == value
    return name == str(value)


def check_hostile(folder, name, allowed, count):
    """Refused with nothing written; or every line is in the table, cell by cell, or in rejects.csv."""
    before = contents(folder, (*STAGE_1, "rejects.csv"))
    result = create("--data-dir", folder, "--max-bad-rows", allowed)
    if result.code:
        count.notes["refused"] += 1
        one_sentence(result, "^(reading .*\n)*create_parquet_dataset.py: error: .*\n$")
        assert contents(folder, (*STAGE_1, "rejects.csv")) == before
        return
    rejects = []
    if (folder / "rejects.csv").exists():
        with (folder / "rejects.csv").open(encoding="utf-8", newline="") as file:
            rejects = [row for row in csv.DictReader(file)]
    count.notes["with rejects" if rejects else "right value"] += 1
    assert len(rejects) <= allowed
    assert {row["file"] for row in rejects} <= {f"{name}.csv"}
    # The lines of the file without those in rejects.csv, read by Python's own parser, are the table.
    csv.field_size_limit(10**8)
    lines = (folder / f"{name}.csv").read_bytes().removesuffix(b"\n").split(b"\n")
    for row in reversed(rejects):
        at = int(row["line"]) - 1
        text = b"\n".join(lines[at : at + row["text"].count("\n") + 1]).rstrip(b"\r")
        assert text.decode(errors="surrogateescape").encode(errors="backslashreplace").decode() == row["text"]
        del lines[at : at + row["text"].count("\n") + 1]
    text = b"\n".join(lines).decode("utf-8-sig")
    header, *good = csv.reader(io.StringIO(text, newline=""))
    # Empty lines hold nothing, and surplus commas are passed over.
    good = [row[: len(header)] for row in good if row and not any(row[len(header) :])]
    table = pq.ParquetFile(folder / name).read().to_pylist()
    assert len(table) == len(good)
    for row, values in zip(good, table, strict=True):
        for text, value in zip(zip(header, row, strict=True), values.values(), strict=True):
            assert same(name, text, value), (text, value)


def test_hostile_text(tmp_path, count):
    folder = copy_csv(FIXTURE, tmp_path / "data")
    assert create("--data-dir", folder).code == 0

    @hypothesis_seed(SEED)
    @settings(
        max_examples=500,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(TABLES), CHANGES, st.sampled_from([0, 2, 1000]))
    def fuzz(name, changes, allowed):
        path = folder / f"{name}.csv"
        content = path.read_bytes()
        for change in changes:
            content = changed(content, *change)
        path.write_bytes(content)
        count.tried += 1
        try:
            check_hostile(folder, name, allowed, count)
        except BaseException:
            count.failures.append("see above")
            raise
        finally:
            shutil.copyfile(FIXTURE / path.name, path)
            (folder / "rejects.csv").unlink(missing_ok=True)

    fuzz()


# Two at once


def together(rng, *commands):
    """Run the callables at the same time, the later ones a random moment later; their results."""
    results = [None] * len(commands)

    def wait_and_run(i, command, moment):
        time.sleep(moment)
        results[i] = command()

    threads = [
        threading.Thread(target=wait_and_run, args=(i, command, rng.uniform(0, 0.3) if i else 0))
        for i, command in enumerate(commands)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def dbt_process(folder, least, **environment):
    """dbt as a user starts it: two that are forked from one process wait for each other."""
    variables = {"data_dir": str(folder), "min_interactions": least}
    return run(DBT, "run", "--vars", json.dumps(variables), cwd=ROOT / "dbt", **environment)


BUSY = "another run is writing into .*: wait until it has ended"


def test_two_at_once_stage_1(prepared, folder, rng, count):
    whole = {}
    for fraction in (0.6, 0.8):
        assert create(fraction, "--data-dir", folder).code == 0
        whole[fraction] = contents(folder, STAGE_1)
    for _ in range(10):
        with count.attempt("0.6 and 0.8"):
            results = together(
                rng, *(lambda fraction=fraction: create_process(fraction, "--data-dir", folder) for fraction in whole)
            )
            check_one_whole_result(results, contents(folder, STAGE_1), whole.values(), count)
            assert set(os.listdir(folder)) == set(os.listdir(prepared))


def test_two_at_once_stage_2(larger, tmp_path, rng, count):
    folder, whole, targets = shutil.copytree(larger, tmp_path / "data"), {}, {}
    for least in (3, 7):
        # Each has parsed the project already: else one writes while the other parses.
        targets[least] = {"DBT_TARGET_PATH": str(tmp_path / f"target{least}")}
        assert dbt("run", folder, {"min_interactions": least}, **targets[least]).code == 0
        whole[least] = contents(folder, STAGE_2)
    for i in range(6):
        with count.attempt("3 and 7 interactions"):
            results = together(
                rng,
                *(
                    lambda n=n, shared=i % 4 == 0: dbt_process(folder, n, **({} if shared else targets[n]))
                    for n in whole
                ),
            )
            check_one_whole_result(results, contents(folder, STAGE_2), whole.values(), count)
            assert set(os.listdir(folder)) == set(os.listdir(larger))


def check_one_whole_result(results, left, whole, count):
    ended = sum(result.code == 0 for result in results)
    count.notes[f"where {ended} of 2 ended well"] += 1
    assert ended
    assert left in whole
    for result in results:
        if result.code:
            one_sentence(result, BUSY)


def test_two_at_once_stages_1_and_2(prepared, folder, rng, count):
    alone = {}
    for fraction in (0.6, 0.8, 0.5):
        assert create(fraction, "--data-dir", folder).code == 0
        assert dbt("run", folder).code == 0
        alone[fraction] = contents(folder, STAGE_2)
    for i in range(6):
        restore(prepared, folder)
        fraction = (0.6, 0.8)[i % 2]
        with count.attempt(f"stage 1 at {fraction} and stage 2"):
            first, second = together(
                rng,
                lambda fraction=fraction: create_process(fraction, "--data-dir", folder),
                lambda: dbt_process(folder, 5),
            )
            for result in (first, second):
                if result.code:
                    one_sentence(result, BUSY)
            record = json.loads((folder / STAGE_2[1]).read_text())
            assert contents(folder, STAGE_2) == alone[record["create_parquet_dataset"]["fraction"]]


def test_two_at_once_stage_3(apart, datastores, undisturbed, rng, count):
    """Two runs in one folder and one datastore."""
    for _, root in zip(range(3), datastores, strict=False):
        surroundings = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(root)}
        results = together(rng, *[lambda s=surroundings: flow("--row_sampling", 0, cwd=apart, **s)] * 2)
        for result in results:
            with count.attempt("a run beside another"):
                assert result.code == 0, text_of(result)
                assert tables_of(run_id(result), root) == undisturbed["stage 3"][0]
        assert len({run_id(result) for result in results}) == 2


def test_stage_3_while_its_data_set_is_replaced(prepared, folder, rng, count):
    """Each run is of the one data set or of the other, and knows of which; or it says what happened."""
    versions, summaries = {}, {}
    for least in (5, 3):
        assert dbt("run", folder, {"min_interactions": least}).code == 0
        versions[least] = contents(folder, STAGE_2)
        data = tables_of(run_id(flow("--row_sampling", 0, cwd=folder)))
        summaries[data["lineage"]["dataset"][0]["sha256"]] = data["summary"]
    for i in range(4):
        process = start("stage 3", folder)
        begun = time.monotonic()
        while (
            process.poll() is None
            and "get_dataset" not in Path(f"/proc/self/fd/{process.output.fileno()}").read_text()
            and time.monotonic() < begun + 60
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2))
        for name, content in versions[(3, 5)[i % 2]].items():
            (folder / f"{name}.new").write_bytes(content)
            os.replace(folder / f"{name}.new", folder / name)
        result = end(process)
        with count.attempt(f"replacement {i}"):
            if result.code:
                count.notes["refused"] += 1
                one_sentence(result, "run .* again|begin a new run")
            else:
                data = tables_of(run_id(result))
                assert data["summary"] == summaries[data["lineage"]["dataset"][0]["sha256"]]


# Repetition


@pytest.fixture(scope="session")
def larger(tmp_path_factory):
    """158,942 purchases after stage 1: more than one row group, so more than one thread has work."""
    folder = tmp_path_factory.mktemp("larger")
    synthetic.generate(folder, 0.005, 1)
    assert create("--data-dir", folder).code == 0
    assert dbt("run", folder).code == 0
    return folder


SURROUNDINGS = [(threads, limit) for threads in (1, 2, 4) for limit in ("1GB", "200MB")]


@of_stages_1_and_2
def test_repetition(stage, names, larger, count):
    first = contents(larger, names)
    for threads, limit in [*SURROUNDINGS, *[(2, "1GB")] * 4]:
        with count.attempt(f"{threads} threads, {limit}"):
            if stage == "stage 1":
                result = create_process("--data-dir", larger, threads=threads, MEMORY_LIMIT=limit)
            else:
                result = dbt("run", larger, threads=threads, MEMORY_LIMIT=limit)
            assert result.code == 0, text_of(result)
            assert contents(larger, names) == first


@pytest.mark.parametrize("percent", [0, 30])
def test_repetition_stage_3(percent, larger, count):
    seen = []
    for threads, limit in SURROUNDINGS[:: 2 if percent else 1]:
        with count.attempt(f"{threads} threads, {limit}"):
            result = flow("--row_sampling", percent, cwd=larger, threads=threads, MEMORY_LIMIT=limit)
            assert result.code == 0, text_of(result)
            seen.append(tables_of(run_id(result)))
            assert seen[-1] == seen[0]


# Drift between the stages


@pytest.fixture(scope="session")
def others(prepared, tmp_path_factory):
    """The prepared data set made in other ways, after stage 2, by what is other."""
    folders = {}
    for name, arguments, variables in [
        ("fraction", [0.6], {}),
        ("seed", [0.5, "--seed", 1], {}),
        ("by", [0.5, "--by", "row"], {}),
        ("content", [0.5], {}),
        ("vars", [0.5], {"min_interactions": 4}),
    ]:
        folders[name] = folder = tmp_path_factory.mktemp("others") / name
        shutil.copytree(prepared, folder)
        if name == "content":
            for table in TABLES:
                path = folder / f"{table}.csv"
                lines = path.read_bytes().splitlines(keepends=True)
                path.write_bytes(b"".join(lines[:-1]))
        assert create(*arguments, "--data-dir", folder).code == 0
        assert dbt("run", folder, variables).code == 0
    return folders


def test_drift_before_stage_2(prepared, folder, others, count):
    """One file of another run of stage 1."""
    before = contents(folder, STAGE_2)
    for other in ("fraction", "seed", "by", "content"):
        for name in STAGE_1:
            shutil.copyfile(others[other] / name, folder / name)
            with count.attempt(f"{name} of another {other}"):
                whole = name == "transactions_train"
                refused_by_stage_2(folder, "run `python create_parquet_dataset.py` again", whole, count)
                assert contents(folder, STAGE_2) == before
            shutil.copyfile(prepared / name, folder / name)


def test_drift_before_stage_3(prepared, folder, others, count):
    """One or both files of another run of stage 2, or stage 1 run anew."""
    for other in others:
        for names in [*[[name] for name in STAGE_2], STAGE_2, STAGE_1]:
            if other == "vars" and names in (STAGE_2, STAGE_1):
                continue  # a pair that belongs together, beside the stage 1 that it was made from
            for name in names:
                shutil.copyfile(others[other] / name, folder / name)
            with count.attempt(f"{', '.join(names)} of another {other}"):
                refused_by_stage_3(folder, "run `cd dbt && dbt run` again", len(names) == 1, count)
            restore(prepared, folder)


# Metaflow


def test_stage_3_resumed_after_a_failure_in_get_dataset(prepared, folder, datastores, undisturbed, count):
    """get_dataset may write no file of more than so many kilobytes; the run is resumed without that limit."""
    for kilobytes, root in zip((8, 16, 30), datastores, strict=False):
        surroundings = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(root)}
        command = f"ulimit -f {kilobytes}; exec '{PYTHON}' '{ROOT}/data_prep.py' run --row_sampling 0"
        failed = run("bash", "-c", command, cwd=folder, **surroundings)
        with count.attempt(f"{kilobytes} KB"):
            one_sentence(failed, "cannot be written to a temporary folder")
            assert "get_dataset" in failed.out
            assert tables_of(run_id(failed), root) is None
            command = ROOT / "data_prep.py", "resume", "--origin-run-id", run_id(failed)
            resumed = run(PYTHON, *command, cwd=folder, **surroundings)
            assert resumed.code == 0, text_of(resumed)
            assert tables_of(run_id(resumed), root) == undisturbed["stage 3"][0]
