"""dbt on Spark, in one process and on a cluster, makes the rows that DuckDB makes."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import engines
import pytest
import stages

pytestmark = pytest.mark.spark

SETTINGS = """
spark.ui.enabled              false
spark.driver.host             127.0.0.1
spark.driver.bindAddress      127.0.0.1
spark.driver.memory           1g
spark.executor.memory         512m
spark.sql.shuffle.partitions  4
"""


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    """Environment variables that keep Spark small and on the loopback address."""
    folder = tmp_path_factory.mktemp("spark_conf")
    (folder / "spark-defaults.conf").write_text(SETTINGS)
    return {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_IP": "127.0.0.1"}


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


@pytest.fixture(scope="session")
def cluster(settings, tmp_path_factory):
    """A standalone cluster of one master and two workers: its address, and the workers' folders."""
    folder = tmp_path_factory.mktemp("cluster")
    workers = [folder / "worker_1", folder / "worker_2"]
    deploy, log = "org.apache.spark.deploy", folder / "master.log"
    with contextlib.ExitStack() as processes:
        processes.enter_context(
            spark_process(
                log, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", "0", "--webui-port", "0", **settings
            )
        )
        master = wait_for(log, r"Starting Spark master at (spark://\S+)")
        for worker in workers:
            processes.enter_context(
                spark_process(
                    worker.with_suffix(".log"),
                    f"{deploy}.worker.Worker",
                    "--host",
                    "127.0.0.1",
                    "--cores",
                    "1",
                    "--memory",
                    "600m",
                    "--webui-port",
                    "0",
                    "--work-dir",
                    worker,
                    master,
                    **settings,
                )
            )
        wait_for(log, "Registering worker", times=2)
        yield master, workers


@pytest.fixture(scope="session", params=["local[2]", "cluster"])
def master(request):
    """Where Spark computes: two threads of dbt's own process, or two processes of a cluster."""
    if request.param == "cluster":
        return request.getfixturevalue("cluster")
    return request.param, []


@pytest.fixture(scope="session")
def by_spark(settings, tmp_path_factory):
    """The folder of part files that Spark makes of the smallest data set; tests only read it."""
    data_dir = engines.copy_inputs("seed0", tmp_path_factory.mktemp("by_spark") / "data")
    result = engines.dbt("run", "spark", data_dir, SPARK_MASTER="local[2]", **settings)
    assert result.code == 0, result.out + result.err
    return data_dir / "filtered_dataframe.parquet"


@pytest.mark.parametrize("source", engines.SOURCES)
def test_same_rows_and_same_run_as_duckdb(source, master, settings, tmp_path):
    address, workers = master
    data_dir = engines.copy_inputs(source, tmp_path / "data")
    for name in ("filtered_dataframe.parquet", "filtered_dataframe.json"):  # of an earlier run
        shutil.copy(engines.by_duckdb(source).folder / name, data_dir)
    engines.assert_built(engines.dbt("build", "spark", data_dir, SPARK_MASTER=address, **settings))
    for worker in workers:
        assert list(worker.glob("app-*/*/stdout")), "this worker had nothing to do"
    made, expected = engines.rows(data_dir / "filtered_dataframe.parquet"), engines.expected(source)
    assert engines.difference(expected, made) == []
    assert made.equals(expected), "the part files are not in the order of the rows"
    engines.assert_same_run(stages.flow("--row_sampling", 0, cwd=data_dir), source)


def test_a_sample_of_rows_is_the_same(by_spark):
    samples = []
    for path in (by_spark, engines.by_duckdb("seed0").folder / by_spark.name):
        prepared = stages.flow("--row_sampling", 10, "--dataset", path)
        assert prepared.code == 0, prepared.out + prepared.err
        samples.append(stages.artifacts(prepared).summary)
    assert samples[0] == samples[1]
    assert 2_000 < samples[0]["train"]["rows"] < 3_500


def test_an_unfinished_folder_is_refused(by_spark, tmp_path):
    folder = shutil.copytree(by_spark, tmp_path / "filtered_dataframe.parquet")
    (folder / "_SUCCESS").unlink()
    refused = stages.flow("--row_sampling", 0, cwd=tmp_path)
    assert refused.code == 1
    assert "has no _SUCCESS, so Spark did not finish it" in refused.out + refused.err
    assert "Traceback" not in refused.out + refused.err


def test_a_cluster_behind_spark_connect(settings, tmp_path):
    """dbt is a thin client, and the server computes."""
    log, port = tmp_path / "connect.log", engines.free_port()
    data_dir = engines.copy_inputs("seed0", tmp_path / "data")
    with spark_process(
        log,
        "org.apache.spark.deploy.SparkSubmit",
        "--master",
        "local[2]",
        "--class",
        "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--conf",
        "spark.connect.grpc.binding.address=127.0.0.1",
        "--conf",
        f"spark.connect.grpc.binding.port={port}",
        "spark-internal",
        **settings,
    ):
        wait_for(log, "Spark Connect server started")
        made = engines.dbt("run", "spark", data_dir, SPARK_MASTER=f"sc://127.0.0.1:{port}", **settings)
    assert made.code == 0, made.out + made.err
    table = engines.rows(data_dir / "filtered_dataframe.parquet")
    assert engines.difference(engines.expected("seed0"), table) == []


def test_what_only_duckdb_knows_is_caught(settings, tmp_path):
    project = engines.project_with(tmp_path, *engines.DUCKDB_ONLY)
    data_dir = engines.copy_inputs("seed0", tmp_path / "data")
    on_duckdb = engines.dbt("run", "dev", data_dir, project=project)
    assert on_duckdb.code == 0, on_duckdb.out
    on_spark = engines.dbt("run", "spark", data_dir, project=project, SPARK_MASTER="local[2]", **settings)
    assert on_spark.code != 0
    assert "count_star" in on_spark.out and "UNRESOLVED_ROUTINE" in on_spark.out
