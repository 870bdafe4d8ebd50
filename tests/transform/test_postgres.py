"""dbt on PostgreSQL makes the rows that DuckDB makes, and the flow reads them from the table."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import duckdb
import engines
import pytest
import stages
from stages import SCHEMA, SHOP

pytestmark = pytest.mark.postgres

TABLE = "hm.filtered_dataframe"


def server_program(name):
    """initdb, say: Debian keeps the server's programs out of the PATH."""
    found = [*Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), shutil.which(name)]
    assert found[0], f"{name} is missing: apt-get install postgresql"
    return found[0]


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of our own on a free port; the environment leads to it."""
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # it refuses root
    port = engines.free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        data, password = Path(folder, "data"), Path(folder, "password")
        password.write_text("secret")
        if user:
            shutil.chown(folder, "postgres")
            shutil.chown(password, "postgres")

        def run(name, *arguments):
            subprocess.run(
                [server_program(name), "--pgdata", data, *arguments],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                **user,
            )

        run(
            "initdb",
            "--username",
            "hm",
            "--pwfile",
            password,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
            "--no-sync",
        )
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        run("pg_ctl", "start", "--wait", "--log", Path(folder, "log"), "--options", options)
        try:
            with pytest.MonkeyPatch.context() as environment:
                for name, value in {
                    "HOST": "127.0.0.1",
                    "PORT": str(port),
                    "USER": "hm",
                    "PASSWORD": "secret",
                    "DATABASE": "postgres",
                }.items():
                    environment.setenv(f"PG{name}", value)
                yield
        finally:
            run("pg_ctl", "stop", "--mode", "immediate")


@pytest.fixture(scope="session")
def connection(server):
    import adbc_driver_postgresql.dbapi

    with adbc_driver_postgresql.dbapi.connect("postgresql://") as connection:
        yield connection


def run_load(data_dir):
    """The command of the README, where `python` is the one of the tests."""
    path = f"{Path(stages.PYTHON).parent}:{os.environ['PATH']}"
    return stages.run("bash", "dbt/load/postgres.sh", data_dir, PATH=path)


def load(source):
    loaded = run_load(engines.by_duckdb(source).folder)
    assert loaded.code == 0, loaded.err


def build(source, command="build", **options):
    load(source)
    return engines.dbt(command, "postgres", engines.by_duckdb(source).folder, **options)


def fetch(connection, query):
    with connection.cursor() as cursor:
        cursor.execute(query)
        table = cursor.fetch_arrow_table()
    connection.rollback()
    return table


def execute(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.commit()


@pytest.mark.parametrize("source", engines.SOURCES)
def test_same_rows_and_same_run_as_duckdb(source, connection, tmp_path):
    engines.assert_built(build(source))
    made = fetch(connection, f"select * from {TABLE}")
    assert engines.difference(engines.expected(source), made) == []
    prepared = stages.flow("--row_sampling", 0, "--dataset", f"postgresql://#{TABLE}", cwd=tmp_path)
    engines.assert_same_run(prepared, source)


def test_the_run_records_the_tables_content(connection, tmp_path):
    assert build("seed0", "run").code == 0
    identities = []
    for change in ("", "", f"update {TABLE} set quantity = quantity + 1 where t_dat < '2018-09-21'"):
        if change:
            execute(connection, change)
        prepared = stages.flow("--dataset", f"postgresql://#{TABLE}", "--row_sampling", 10, cwd=tmp_path)
        assert prepared.code == 0, prepared.out + prepared.err
        identity, items = stages.artifacts(prepared).lineage["dataset"]
        assert items["name"] == "items.parquet"
        assert identity.keys() == {"name", "bytes", "sha256"}
        assert identity["name"] == f"{TABLE}.parquet"
        identities.append(identity["sha256"])
    assert identities[0] == identities[1] != identities[2]


def table_with(connection, name, customer_id, more=""):
    """A copy of the table hm.{name} with another customer_id."""
    execute(connection, f"drop table if exists hm.{name}")
    columns = ", ".join(f"{customer_id} as customer_id" if n == "customer_id" else n for n in SCHEMA.names)
    execute(connection, f"create table hm.{name} as select {columns} from {TABLE} {more}")


def test_the_order_is_duckdbs_whatever_the_databases_language(connection, tmp_path):
    """So that a sample of the rows is the same: English puts a before B."""
    assert build("seed0", "run").code == 0
    mixed = "case when right(customer_id, 1) < '8' then upper(customer_id) else customer_id end"
    table_with(connection, "english", f'{mixed} collate "en-x-icu"')
    path = tmp_path / "filtered_dataframe.parquet"
    order = ", ".join(SHOP.grain)
    english = fetch(connection, f"select * from hm.english order by {order}")
    with duckdb.connect() as con:
        con.execute(f"copy (from english order by {order}) to '{path}'")
    assert english["customer_id"] != engines.rows(path)["customer_id"], "this language sorts as bytes do"
    tables = []
    for dataset in (path, "postgresql://#hm.english"):
        prepared = stages.flow("--row_sampling", 10, "--dataset", dataset, cwd=tmp_path)
        assert prepared.code == 0, prepared.out + prepared.err
        tables.append(stages.frame(stages.artifacts(prepared).label_to_dataset["train"]))
    assert tables[0].equals(tables[1])


def test_a_table_is_read_in_batches(connection, tmp_path):
    """Its reader holds a small part of it."""
    assert build("seed0", "run").code == 0
    table_with(connection, "large", "customer_id || number", ", generate_series(1, 60) as number")
    (size,) = fetch(connection, "select pg_table_size('hm.large') as bytes")["bytes"].to_pylist()
    script = """if True:
        import resource, sys
        from pathlib import Path
        import adbc_driver_postgresql.dbapi
        from prep.shop import read_shop
        from prep.split.dataset import open_dataset
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        open_dataset("postgresql://#hm.large", read_shop(), Path(sys.argv[1]))
        print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))"""
    fetched = stages.run(stages.PYTHON, "-c", script, tmp_path, MEMORY_LIMIT="100MB", PYTHONPATH=str(stages.ROOT))
    assert fetched.code == 0, fetched.err
    assert int(fetched.out) < size / 2


def test_one_changed_row_is_seen(connection):
    assert build("seed0", "run").code == 0
    execute(
        connection,
        f"""
        update {TABLE} set quantity = quantity + 1
        where ctid = (select ctid from {TABLE} order by t_dat desc limit 1)""",
    )
    made = fetch(connection, f"select * from {TABLE}")
    assert len(engines.difference(engines.expected("seed0"), made)) == 2  # as it was, and as it is


def test_a_sample_of_rows_is_the_same(connection, tmp_path):
    assert build("seed0", "run").code == 0
    samples = []
    for dataset in (
        f"postgresql://127.0.0.1/postgres#{TABLE}",
        engines.by_duckdb("seed0").folder / "filtered_dataframe.parquet",
    ):
        prepared = stages.flow("--row_sampling", 10, "--dataset", dataset, cwd=tmp_path)
        assert prepared.code == 0, prepared.out + prepared.err
        samples.append(stages.artifacts(prepared).summary)
    assert samples[0] == samples[1]


def test_a_load_that_fails_changes_nothing(connection, tmp_path):
    load("seed0")
    before = fetch(connection, "table raw.customers")
    data_dir = engines.copy_inputs("seed1", tmp_path / "data")
    (data_dir / "transactions_train").write_bytes(b"cut")
    assert run_load(data_dir).code != 0
    assert fetch(connection, "table raw.customers").equals(before)


@pytest.fixture(scope="session")
def unfit_tables(connection):
    assert build("seed0", "run").code == 0
    execute(connection, f"create table hm.empty as select * from {TABLE} limit 0")
    execute(connection, f"create table hm.late as select * from {TABLE} where t_dat >= '2020-09-01'")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("postgresql://#hm.nothing", 'relation "hm.nothing" does not exist'),
        ("postgresql://", "names no table: end it with #schema.table"),
        ("postgresql://#hm.x;drop", "names no table: end it with #schema.table"),
        ("postgresql://hm:hunter2@127.0.0.1#hm.x", "holds a password or an option that may be a secret"),
        ("postgresql://?password=hunter2#hm.x", "holds a password or an option that may be a secret"),
        ("postgresql://127.0.0.1:1#hm.x", "connection to server"),
        ("mysql://127.0.0.1#hm.x", "is of no known database: it must begin with postgresql"),
        ("postgresql://#raw.articles", "lacks the column active, fn, age"),
        ("postgresql://#hm.empty", "has no row"),
        ("postgresql://#hm.late", "customers bought nothing before 2020-09-08"),
    ],
)
def test_a_table_that_is_not_fit_is_refused(dataset, message, unfit_tables, tmp_path):
    refused = stages.flow("--row_sampling", 0, "--dataset", dataset, cwd=tmp_path)
    assert refused.code == 1
    assert message in refused.out + refused.err
    assert "Traceback" not in refused.out + refused.err
    assert "hunter2" not in refused.out + refused.err


def test_what_only_duckdb_knows_is_caught(connection, tmp_path):
    project = engines.project_with(tmp_path, *engines.DUCKDB_ONLY)
    data_dir = engines.copy_inputs("seed0", tmp_path / "data")
    on_duckdb = engines.dbt("run", "dev", data_dir, project=project)
    assert on_duckdb.code == 0, on_duckdb.out
    on_postgres = build("seed0", "run", project=project)
    assert on_postgres.code != 0
    assert "count_star() does not exist" in on_postgres.out
