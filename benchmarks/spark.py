"""Spark beside DuckDB on the same data: spark.py FOLDER [ENGINE ...] prints a Markdown table.

FOLDER holds the files of stage 1. Each engine runs stage 2 on them, and the flow reads one percent of
what it left. The engines must leave the same rows.

- seconds: wall time of the command; a cluster is already up
- CPU seconds: of the command and all that it started, and of the cluster from its own start on
- peak memory: resident, the sum over these processes, looked at five times a second (Linux only)
- shuffled, spilled: bytes that Spark's tasks wrote for other tasks, and for want of memory
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb

ROOT = Path(__file__).resolve().parents[1]
ENGINES = {  # name: dbt's target, and Spark's master or the number of workers in a cluster
    "duckdb": ("dev", None),
    "local[1]": ("spark", "local[1]"),
    "local[2]": ("spark", "local[2]"),
    "1-worker": ("spark", 1),
    "2-workers": ("spark", 2),
}
INPUTS = ("articles", "customers", "transactions_train", "create_parquet_dataset.json")
RESULT = "filtered_dataframe.parquet"


def settings(folder, memory="1g", partitions=4):
    """Environment variables for a Spark on the loopback address, with `memory` (1g, say) in each process.

    Its tasks' figures go to a log in `folder`.
    """
    folder.mkdir()
    (folder / "spark-defaults.conf").write_text(f"""
        spark.ui.enabled                  false
        spark.driver.host                 127.0.0.1
        spark.driver.bindAddress          127.0.0.1
        spark.driver.memory               {memory}
        spark.executor.memory             {memory}
        spark.sql.shuffle.partitions      {partitions}
        spark.eventLog.enabled            true
        spark.eventLog.dir                {folder}
        spark.eventLog.rolling.enabled    false
        spark.eventLog.compress           false
    """)
    return {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1"}


def shuffled_and_spilled(folder):
    """(bytes, bytes) of all tasks in the logs in `folder`."""
    events = (json.loads(line) for log in folder.glob("*-*") if log.suffix != ".conf" for line in log.open())
    tasks = [event["Task Metrics"] for event in events if event["Event"] == "SparkListenerTaskEnd"]
    shuffled = sum(task["Shuffle Write Metrics"]["Shuffle Bytes Written"] for task in tasks)
    return shuffled, sum(task["Disk Bytes Spilled"] for task in tasks)


@contextlib.contextmanager
def spark_process(log, *command, **environment):
    """A process of Spark's own, started by the script of the pyspark package."""
    import pyspark

    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    with log.open("w") as output:
        process = subprocess.Popen([spark_class, *command], stdout=output, stderr=output, env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def wait_for(log, pattern, times=1):
    """The last of so many matches in a log file, as soon as they stand there."""
    for _ in range(600):
        found = re.findall(pattern, log.read_text())
        if len(found) >= times:
            return found[-1]
        time.sleep(0.1)
    raise AssertionError(f"{pattern} is not in {log}:\n{log.read_text()}")


@contextlib.contextmanager
def cluster(folder, workers, memory="1g", **environment):
    """A standalone cluster of one master and so many workers with one core each: its address.

    The workers' own folders are worker_1, ... in `folder`.
    """
    deploy, log = "org.apache.spark.deploy", folder / "master.log"
    here = ("--host", "127.0.0.1", "--webui-port", "0")
    with contextlib.ExitStack() as processes:
        processes.enter_context(spark_process(log, f"{deploy}.master.Master", *here, "--port", "0", **environment))
        master = wait_for(log, r"Starting Spark master at (spark://\S+)")
        for number in range(1, workers + 1):
            worker = folder / f"worker_{number}"
            size = ("--cores", "1", "--memory", memory, "--work-dir", worker)
            command = (f"{deploy}.worker.Worker", *here, *size, master)
            processes.enter_context(spark_process(worker.with_suffix(".log"), *command, **environment))
        wait_for(log, "Registering worker", times=workers)
        yield master


def processes():
    """{process id: (parent, CPU seconds, resident bytes)}, of the whole machine."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / ticks
            found[int(stat.parent.name)] = int(fields[1]), cpu, int(fields[21]) * page
    return found


class Watch(threading.Thread):
    """CPU seconds and peak memory of all that this process starts, until stop()."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak, self._cpu, self._stop_asked = 0, {}, threading.Event()
        self.start()

    def run(self):
        mine = {os.getpid()}
        while not self._stop_asked.wait(0.2):
            found = processes()
            for pid in sorted(found):
                if found[pid][0] in mine:
                    mine.add(pid)  # and stays it, when its parent ends first
            mine &= found.keys()
            started = mine - {os.getpid()}
            self._cpu |= {pid: found[pid][1] for pid in started}
            self.peak = max(self.peak, sum(found[pid][2] for pid in started))

    def stop(self):
        """(CPU seconds, bytes)."""
        self._stop_asked.set()
        self.join()
        return sum(self._cpu.values()), self.peak


def measured(command, limit, **options):
    """The row of the table: seconds, CPU seconds, peak memory."""
    watch, started = Watch(), time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **options
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        output = None
    seconds = time.monotonic() - started
    cpu, peak = watch.stop()
    if output is not None and process.returncode:
        raise SystemExit(output)
    return f"{'more than ' if output is None else ''}{seconds:,.0f} | {cpu:,.0f} | {peak / 1e9:.2f} GB"


def run_engine(engine, inputs, folder, memory, partitions, limit):
    """Stage 2 by the engine and the flow on its result: two rows of the table, and a digest of the rows."""
    target, master = ENGINES[engine]
    home = folder / engine.replace("[", "_").rstrip("]")
    home.mkdir()
    for name in INPUTS:
        os.link(inputs / name, home / name)
    environment = {
        "METAFLOW_USER": "benchmark",
        "DBT_TARGET_PATH": f"{home}/dbt",
        "DBT_LOG_PATH": f"{home}/dbt",
        **settings(home / "conf", memory, partitions),
    }
    with contextlib.ExitStack() as stack:
        if isinstance(master, int):
            master = stack.enter_context(cluster(home, master, memory, **environment))
        environment = os.environ | environment | ({"SPARK_MASTER": master} if master else {})
        variables = json.dumps({"data_dir": str(home)})
        dbt = [Path(sys.executable).with_name("dbt"), "run", "--target", target, "--vars", variables]
        row = measured(dbt, limit, cwd=ROOT / "dbt", env=environment)
    shuffled, spilled = shuffled_and_spilled(home / "conf")
    yield f"| dbt run, {engine} | {row} | {shuffled / 1e9:.2f} GB | {spilled / 1e9:.2f} GB |"
    if "more than" in row:
        return
    flow = [sys.executable, ROOT / "data_prep.py", "run"]
    yield f"| flow, 1 % of the rows of {engine} | {measured(flow, limit, cwd=home, env=environment)} | | |"
    with duckdb.connect() as con:
        yield con.sql(
            "select count(*), sum(quantity), bit_xor(hash(customer_id, article_id, t_dat, price))"
            f" from read_parquet('{home / RESULT}')"
        ).fetchall()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("engines", metavar="ENGINE", nargs="*", help=f"{', '.join(ENGINES)}; all when none is given")
    parser.add_argument("--memory", default="1g", help="of Spark's driver, and of each executor (default: 1g)")
    parser.add_argument("--partitions", type=int, default=8, help="of a shuffle (default: 8)")
    parser.add_argument("--limit", type=int, default=1200, help="seconds for a command (default: 1200)")
    arguments = parser.parse_args(argv)
    for engine in arguments.engines:
        if engine not in ENGINES:
            parser.error(f"{engine} is none of {', '.join(ENGINES)}")
    print("| | seconds | CPU seconds | peak memory | shuffled | spilled |\n|---|---|---|---|---|---|")
    digests = []
    with tempfile.TemporaryDirectory(prefix="spark-", dir=arguments.folder) as folder:
        for engine in arguments.engines or ENGINES:
            for line in run_engine(
                engine,
                arguments.folder.resolve(),
                Path(folder).resolve(),
                arguments.memory,
                arguments.partitions,
                arguments.limit,
            ):
                if isinstance(line, str):
                    print(line, flush=True)
                else:
                    digests.append(line)
    if any(digest != digests[0] for digest in digests):
        sys.exit("the engines left different rows")


if __name__ == "__main__":
    main()
