"""Metaflow's surroundings for the tests, and data sets that many tests only read."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

# Before metaflow is imported: it reads these once. The folder goes when the tests have ended.
_surroundings = tempfile.TemporaryDirectory(prefix="tests-")
SURROUNDINGS = Path(_surroundings.name)
for name in [name for name in os.environ if name.startswith(("METAFLOW_", "DBT_"))]:
    del os.environ[name]
os.environ |= {
    "METAFLOW_USER": "tester",
    "METAFLOW_HOME": f"{SURROUNDINGS}/home",
    "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(SURROUNDINGS),
    "METAFLOW_CLIENT_CACHE_PATH": f"{SURROUNDINGS}/cache",
    "DBT_TARGET_PATH": f"{SURROUNDINGS}/dbt",
    "DBT_LOG_PATH": f"{SURROUNDINGS}/dbt",
}

import stages  # noqa: E402
import synthetic  # noqa: E402

CHROMIUM = shutil.which("chromium")
FIXTURE = Path(__file__).parent / "fixture"
HM_REAL = ROOT.parent / "shared" / "hm_real"


FAULTS = pytest.StashKey()  # (fault, tried, survived, notes) of each test in faults/test_kills_and_disks.py


def pytest_configure(config):
    config.stash[FAULTS] = []


def pytest_terminal_summary(terminalreporter, config):
    if not config.stash[FAULTS]:
        return
    terminalreporter.section(f"faults, FAULTS_SEED={sys.modules['test_kills_and_disks'].SEED}")
    terminalreporter.write_line(f"{'fault':<55}{'tried':>6}{'survived':>10}  of which")
    for fault, tried, survived, notes in config.stash[FAULTS]:
        terminalreporter.write_line(f"{fault:<55}{tried:>6}{survived:>10}  {notes}")


def copy_csv(source, folder):
    """The three CSV files of source in folder, as files that a test may change."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.csv"):
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture
def data(tmp_path):
    """The hand-written CSV files, in a folder of the test's own."""
    return copy_csv(FIXTURE, tmp_path / "data")


@pytest.fixture(scope="session")
def hand_made(tmp_path_factory):
    """The hand-written data set after all three stages; tests only read it."""
    return stages.whole_way(copy_csv(FIXTURE, tmp_path_factory.mktemp("hand_made")))


@pytest.fixture
def made(hand_made, tmp_path):
    """A copy of the hand-made files of stages 1 and 2."""
    folder = tmp_path / "data"
    shutil.copytree(hand_made.folder, folder, ignore=shutil.ignore_patterns(".metaflow"))
    return folder


@pytest.fixture(scope="session")
def hm_real(tmp_path_factory):
    """The real rows after all three stages; tests only read it."""
    if not HM_REAL.is_dir():
        pytest.skip("the real rows are not here")
    return stages.whole_way(copy_csv(HM_REAL, tmp_path_factory.mktemp("hm_real")))


@pytest.fixture(scope="session", params=[0, 1, 2], ids="seed{}".format)
def synthetic_csv(request, tmp_path_factory):
    """A folder with the CSV files of a synthetic data set, 31,788 purchases."""
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.generate(folder, 0.001, request.param)
    return folder


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A folder with 397,354 purchases after stages 1 and 2: enough for several threads."""
    folder = tmp_path_factory.mktemp("large")
    synthetic.generate(folder, 0.0125, 0)
    assert stages.create("--data-dir", folder).code == 0
    assert stages.dbt("run", folder, threads=2).code == 0
    return folder


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium. It may be missing on a user's machine, but not in CI."""
    if "CI" not in os.environ:
        if not CHROMIUM:
            pytest.skip("needs chromium, Debian's package of that name")
        pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield chromium
        chromium.close()
