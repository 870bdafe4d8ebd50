"""dbt on Spark, in one process and on a cluster, makes the rows that DuckDB makes."""

import shutil

import engines
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stages

from benchmarks import spark

pytestmark = pytest.mark.spark


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    """Environment variables that keep Spark small and on the loopback address."""
    return spark.settings(tmp_path_factory.mktemp("spark") / "conf")


@pytest.fixture(scope="session")
def cluster(settings, tmp_path_factory):
    """A standalone cluster of one master and two workers: its address, and the workers' folders."""
    folder = tmp_path_factory.mktemp("cluster")
    with spark.cluster(folder, workers=2, **settings) as master:
        yield master, [folder / "worker_1", folder / "worker_2"]


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


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_days_do_not_hang_on_the_time_zone_of_the_machine(zone, settings, tmp_path):
    """And t_dat has a zone, as pandas and Spark write it: its days are those of UTC."""
    data_dir = engines.copy_inputs("seed0", tmp_path / "data")
    table = pq.ParquetFile(data_dir / "transactions_train").read()
    zoned = table["t_dat"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    at = table.schema.get_field_index("t_dat")
    pq.write_table(table.set_column(at, "t_dat", zoned), data_dir / "transactions_train")
    result = engines.dbt("run", "spark", data_dir, SPARK_MASTER="local[2]", TZ=zone, **settings)
    assert result.code == 0, result.out + result.err
    made = engines.rows(data_dir / "filtered_dataframe.parquet")
    assert engines.difference(engines.expected("seed0"), made) == []


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


def test_duckdb_does_not_write_over_sparks_folder(by_spark):
    before = stages.snapshot(by_spark)
    refused = stages.dbt("run", by_spark.parent)
    assert refused.code != 0
    assert f"{by_spark} is a folder, as Spark leaves it" in refused.out
    assert "Traceback" not in refused.out
    assert stages.snapshot(by_spark) == before


def test_a_cluster_behind_spark_connect(settings, tmp_path):
    """dbt is a thin client, and the server computes."""
    log, port = tmp_path / "connect.log", engines.free_port()
    data_dir = engines.copy_inputs("seed0", tmp_path / "data")
    with spark.spark_process(
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
        spark.wait_for(log, "Spark Connect server started")
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
