"""What the pipeline costs, against other ways and the floor: bench.py --scale 0.1 --scale 1.

For every scale: makes synthetic data once, runs every contender's stages as processes of their own,
checks that all contenders made the same tables, and adds the figures to results.json. Then (also
without any scale) draws docs/results.md and docs/cost.svg from results.json. One contender is the first release,
whose code comes out of the history.

- seconds: wall time, from start to end of the process; for the floors and for reading, inside it
- cpu_seconds: user and system time of the process and of all that it started
- peak_bytes: the largest resident set of one process among them (as /usr/bin/time shows it);
  Metaflow runs each step as a child and is itself another 0.05 GB, dbt is one process
- written_bytes: what went to the file system, spilled and temporary files included (Linux only)
- kept_bytes: the size of the files that the process leaves
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

# Nothing large is imported here before the runs: Linux counts the parent's memory at the moment of
# the fork as the child's own peak.
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DBT = Path(sys.executable).with_name("dbt")
TINY = 0.001
MADE = ".synthetic.json"  # what tools/synthetic.py leaves beside its files
FIRST_RELEASE = "c05fc9f"
# Beyond these the others take more memory than a common machine has.
LARGEST_SCALE = {"first release": 1, "row by row": 0.1, "pandas": 0.3, "Polars": 1}
WITHOUT_BASKETS = ("small", "pipeline", "first release")  # who also runs on rows without baskets
LARGEST_WHOLE = 1  # beyond, the flow takes one percent of the rows
LARGEST_STORED = 0.3  # of the trial of storing; more shows the same and takes longer
# Beyond, the CSV files go after stage 1, since few disks hold them beside what stage 2 spills, and dbt has more memory.
LARGEST_KEPT, MORE_MEMORY = 3, "4GB"
POLARS_LIMIT = 4_000_000_000  # bytes of memory that it may hold from scale 0.3 on
# Scripts that run on the pipeline's files, each with its argument.
AFTERWARDS = (
    *(f"floors {what}" for what in ("parse", "write_inputs", "read_inputs")),
    *(f"floors {what}" for what in ("write_result", "read_result")),
    *(f"checks {what}" for what in ("hashes", "leaks")),
    *(f"reading {what}" for what in ("pyarrow", "client", "client_test")),
)
PACKAGES = ("duckdb", "dbt-core", "dbt-duckdb", "metaflow", "pyarrow", "pandas", "polars")


@dataclass(frozen=True)
class Job:
    """One process to measure, and the files or folders that it leaves."""

    name: str
    command: tuple
    home: Path  # where Metaflow and dbt keep what they write, and the working folder
    outputs: tuple = ()
    used_up: tuple = ()  # inputs that nobody needs afterwards
    cwd: Path | None = None  # another working folder
    timed_inside: bool = False  # the last line that it prints is its own {"seconds": ...}
    memory: str | None = None  # MEMORY_LIMIT, where it is another than that of the others
    limit: int | None = None  # bytes of data that the process may hold; beyond, it may fail

    def environment(self):
        """The environment of the process."""
        return os.environ | {
            "METAFLOW_USER": "benchmark",
            "METAFLOW_DEFAULT_DATASTORE": "local",
            "METAFLOW_DEFAULT_METADATA": "local",
            "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(self.home),
            "METAFLOW_CLIENT_CACHE_PATH": str(self.home / "cache"),
            "DBT_TARGET_PATH": str(self.home / "dbt" / "target"),
            "DBT_LOG_PATH": str(self.home / "dbt"),
            **({"MEMORY_LIMIT": self.memory} if self.memory else {}),
        }


def remove(path):
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def size(path):
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def measure(job):
    """Run `job` without outputs and caches (dbt, Metaflow) of earlier runs; return its figures."""
    job.home.mkdir(exist_ok=True)
    for path in (*job.outputs, job.home / "cache", job.home / "dbt"):
        remove(path)
    os.sync()  # so that no process pays for what the one before it wrote
    log = job.home / "log.txt"
    with log.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in job.command],
            cwd=job.cwd or job.home,
            env=job.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=job.limit and (lambda: resource.setrlimit(resource.RLIMIT_DATA, (job.limit, job.limit))),
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    may_fail = job.limit or "first release" in job.name  # that is told, and the others go on
    if process.returncode != 0 and not may_fail:
        sys.exit(
            f"bench.py: {job.name} failed with exit code {process.returncode}; the end of {log}:\n"
            + log.read_text()[-2000:]
        )
    for path in job.used_up:
        remove(path)
    if job.timed_inside and process.returncode == 0:
        seconds = json.loads(log.read_text().splitlines()[-1])["seconds"]
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "written_bytes": usage.ru_oublock * 512,
        "kept_bytes": sum(size(path) for path in job.outputs),
        "failed": int(process.returncode != 0),
    }


def three_stages(name, home, data, first, dbt_project, flow, flow_name):
    """Jobs of a way that has three stages, each reading what the one before it left in `data`."""
    result = data / "filtered_dataframe.parquet"
    inputs = tuple(data / table for table in ("articles", "customers", "transactions_train"))
    variables = json.dumps({"data_dir": str(data)})
    python = (sys.executable,)
    return [
        Job(f"{name} 1", python + first, home, inputs),
        Job(f"{name} 2", (DBT, "run", "--vars", variables), home, (result,), cwd=dbt_project),
        Job(
            f"{name} 3",
            python + flow + ("--dataset", result),
            home,
            (home / ".metaflow" / flow_name,),
        ),
    ]


def pipeline(name, home, code=ROOT):
    """The three commands of the README, of the project in the folder `code`."""
    first = (code / "create_parquet_dataset.py", "--data-dir", home)
    flow = (code / "data_prep.py", "run", "--row_sampling", "0")
    return three_stages(name, home, home, first, code / "dbt", flow, "DataPrepFlow")


def storing(name, folder):
    """The data set in the folder becomes an artifact, and nothing else is done."""
    command = (sys.executable, HERE / "storing.py", "run", "--file", folder / "filtered_dataframe.parquet")
    home = folder / "storing"
    return Job(name, command, home, (home / ".metaflow" / "StoringFlow",))


def first_release(folder):
    """The folder of the first release's code, out of the history."""
    code = folder / FIRST_RELEASE
    if not code.exists():
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", code, FIRST_RELEASE], check=True)
    return code


def beside(folder, name):
    """A folder for a contender that writes beside the CSV files: these again, without a copy."""
    (folder / name).mkdir(exist_ok=True)
    for path in folder.glob("*.csv"):
        remove(folder / name / path.name)
        os.link(path, folder / name / path.name)
    return folder / name


def contenders(folder, tiny, scale):
    """{name: jobs} of all that is measured at one scale; every list runs in its order."""
    rows, own = HERE / "row_by_row", folder / "row by row"
    first = first_release(folder.parent)
    ways = {
        "pipeline": pipeline("pipeline", folder),
        "first release": pipeline("first release", beside(folder, "first release"), first),
        "small": [
            Job("empty flow", (sys.executable, HERE / "empty_flow.py", "run"), tiny),
            *pipeline("tiny", tiny),
            storing("tiny storing", tiny),
            *pipeline("tiny, first release", beside(tiny, "first release"), first),
        ],
        "row by row": three_stages(
            "row by row",
            folder,
            own,
            (rows / "read_csv.py", folder, own),
            rows / "dbt",
            (rows / "flow.py", "run"),
            "RowByRowFlow",
        ),
    }
    # What follows reads the files that the pipeline left.
    sampled = (sys.executable, ROOT / "data_prep.py", "run", "--row_sampling", "1", "--dataset")
    sampled += (folder / "filtered_dataframe.parquet",)
    if scale > LARGEST_WHOLE:
        ways["pipeline"].pop()
    if scale > LARGEST_KEPT:
        used_up = (*folder.rglob("*.csv"), folder / MADE)
        stage_1, stage_2 = ways["pipeline"]
        ways["pipeline"] = [replace(stage_1, used_up=used_up), replace(stage_2, memory=MORE_MEMORY)]
    ways["pipeline"].append(Job("sample 1 %", sampled, folder / "sample"))
    if scale <= LARGEST_STORED:
        ways["pipeline"].append(storing("storing", folder))
    reading, home = (sys.executable, HERE / "reading.py", "client"), folder / "first release"
    ways["first release"].append(Job("reading first release", (*reading, home), home, timed_inside=True))
    for name in AFTERWARDS if scale <= LARGEST_WHOLE else ():
        script, what = name.split()
        command = (sys.executable, HERE / f"{script}.py", what, folder)
        ways["pipeline"].append(Job(name, command, folder, timed_inside=True))
    for way in ("Polars", "pandas"):
        ways[way] = [
            Job(
                way,
                (sys.executable, HERE / f"with_{way.lower()}.py", folder, folder / way),
                folder,
                (folder / way,),
                limit=POLARS_LIMIT if way == "Polars" and scale >= 0.3 else None,
            )
        ]
    return ways


def make_data(folder, scale, baskets=True):
    """The CSV files of that scale, made again only when synthetic.py has changed since."""
    made, script = folder / MADE, ROOT / "tools" / "synthetic.py"
    if not made.exists() or made.stat().st_mtime < script.stat().st_mtime:
        more = [] if baskets else ["--no-baskets"]
        subprocess.run([sys.executable, script, folder, "--scale", str(scale), *more], check=True)
    for path in folder.glob("*.csv"):  # into the page cache, for all alike
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    return {
        "purchases": json.loads(made.read_text())["files"]["transactions_train.csv"]["rows"],
        "csv_bytes": sum(size(path) for path in folder.glob("*.csv")),
    }


def run_scale(scale, repeats, data, baskets):
    """All figures of one scale: {"purchases", "csv_bytes", "jobs": {name: [figures, ...]}}."""
    folder, tiny = data / scale_name(scale, baskets), data / "tiny"
    figures = make_data(folder, scale, baskets)
    make_data(tiny, TINY)
    ways = {
        name: jobs
        for name, jobs in contenders(folder, tiny, scale).items()
        if scale <= LARGEST_SCALE.get(name, scale) and (baskets or name in WITHOUT_BASKETS)
    }
    for name in LARGEST_SCALE:
        (folder / name).mkdir(exist_ok=True)
    figures["load"] = os.getloadavg()[0]
    figures["jobs"] = {job.name: [] for jobs in ways.values() for job in jobs}
    for repeat in range(repeats):
        # Every second time in reverse, so that nobody always follows the same neighbour.
        for name in list(ways)[:: -1 if repeat % 2 else 1]:
            for job in ways[name]:
                measured = measure(job)
                figures["jobs"][job.name].append(measured)
                print(
                    f"scale {scale:g}, {job.name}: {measured['seconds']:.2f} s, {measured['peak_bytes'] / 1e9:.2f} GB",
                    flush=True,
                )
    failed = {name for name, jobs in ways.items() for job in jobs if figures["jobs"][job.name][-1]["failed"]}
    rivals = [name for name in LARGEST_SCALE if name in ways and name not in failed]
    if rivals:
        check = Job("check", (sys.executable, HERE / "expected.py", folder, *rivals), folder)
        measure(check)  # stops here when their tables differ
    return figures


def scale_name(scale, baskets):
    """What a scale is called in the results."""
    return f"{scale:g}" if baskets else f"{scale:g} without baskets"


def machine():
    """One line: what the figures were measured on and with."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GB of memory, "
        f"{platform.system()}, MEMORY_LIMIT {os.environ.get('MEMORY_LIMIT', 'default')}, "
        f"Python {platform.python_version()}, " + ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    )


def main(argv=None):
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scale",
        type=float,
        action="append",
        default=[],
        metavar="S",
        help="1 is the size of H&M's data; may be repeated; none: only draw again",
    )
    parser.add_argument(
        "--repeats",
        type=int,
        metavar="N",
        help="how often; medians count (default: 3 up to scale 0.3, 1 beyond)",
    )
    parser.add_argument(
        "--no-baskets", action="store_true", help="rows of any customer on any day, the hardest to sort and to compress"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=HERE / "data",
        help="where the data is made and kept (default: benchmarks/data)",
    )
    parser.add_argument(
        "--out-dir",
        type=Path,
        help="for results.json, results.md and cost.svg (default: benchmarks, and docs for the page)",
    )
    arguments = parser.parse_args(argv)
    data, out = arguments.data_dir.resolve(), arguments.out_dir or ROOT / "docs"
    out.mkdir(parents=True, exist_ok=True)
    stored = (arguments.out_dir or HERE) / "results.json"
    results = json.loads(stored.read_text()) if stored.exists() else {"machine": "", "scales": {}}
    for scale in arguments.scale:
        if results["machine"] != machine():  # figures of two machines or versions do not mix
            results = {"machine": machine(), "scales": {}}
        repeats = arguments.repeats or (3 if scale <= 0.3 else 1)
        baskets = not arguments.no_baskets
        results["scales"][scale_name(scale, baskets)] = run_scale(scale, repeats, data, baskets)
        stored.write_text(json.dumps(results, indent=1) + "\n")
    from report import draw

    draw(results, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
