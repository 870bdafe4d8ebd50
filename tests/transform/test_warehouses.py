"""Snowflake and BigQuery, without an account: compiled, parsed, held to a list of functions, emulated.

The real services were not reached. The emulators (fakesnow, crucible) run on DuckDB themselves and
would let some of its SQL pass, so the list of functions is checked too.
"""

import contextlib
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import duckdb
import engines
import pytest
import stages
import yaml

pytestmark = pytest.mark.warehouses

WAREHOUSES = ["snowflake", "bigquery"]
CRUCIBLE = stages.ROOT / ".venv-crucible" / "bin" / "crucible"
ACCOUNT = {
    "SNOWFLAKE_ACCOUNT": "nobody",
    "SNOWFLAKE_USER": "nobody",
    "SNOWFLAKE_PASSWORD": "none",
    "SNOWFLAKE_WAREHOUSE": "none",
    "SNOWFLAKE_DATABASE": "shop",
    "BIGQUERY_PROJECT": "shop",
}
# What follows as a call in the compiled SQL; each is in DuckDB, Spark, PostgreSQL, Snowflake, BigQuery.
FUNCTIONS = {"cast", "coalesce", "count", "row_number", "sum"}
KEYWORDS = {"as", "by", "from", "in", "on", "over", "and", "or", "where", "having", "select"}


def compiled(target, folder, project=stages.ROOT / "dbt"):
    """{path: SQL} of all models and tests, as the warehouse's own adapter compiles them."""
    folder.mkdir(exist_ok=True)
    key = folder / "key.json"  # of the form of Google's, and of no use
    key.write_text(
        json.dumps({"type": "authorized_user", "client_id": "nobody", "client_secret": "none", "refresh_token": "none"})
    )
    result = engines.dbt(
        "compile",
        target,
        "..",
        "--no-introspect",
        "--no-populate-cache",
        "--target-path",
        folder,
        project=project,
        GOOGLE_APPLICATION_CREDENTIALS=str(key),
        **ACCOUNT,
    )
    assert result.code == 0, result.out + result.err
    files = sorted(folder.glob("compiled/**/*.sql"))
    return {path: path.read_text() for path in files}


def functions(sql):
    """The names that are called in the SQL, in lower case."""
    code = re.sub(r"--[^\n]*|'[^']*'", "", sql)
    return {name.lower() for name in re.findall(r"\b([a-zA-Z_]\w*)\s*\(", code)} - KEYWORDS


def parse_errors(sql, dialect):
    from sqlfluff.core import FluffConfig, Linter

    parsed = Linter(config=FluffConfig(overrides={"dialect": dialect})).parse_string(sql)
    return [str(violation) for violation in parsed.violations]


@pytest.mark.parametrize("target", WAREHOUSES)
def test_compiled_sql_is_of_the_dialect_and_calls_what_every_engine_has(target, tmp_path):
    files = compiled(target, tmp_path)
    assert len(files) >= 5 + 33
    for path, sql in files.items():
        assert parse_errors(sql, target) == [], path
        assert functions(sql) <= FUNCTIONS, path
    assert set().union(*map(functions, files.values())) == FUNCTIONS, "the list has more than is used"


@pytest.mark.parametrize("target", WAREHOUSES)
def test_a_function_that_only_duckdb_has_is_caught(target, tmp_path):
    project = engines.project_with(tmp_path, *engines.DUCKDB_ONLY)
    files = compiled(target, tmp_path / "target", project=project)
    called = set().union(*map(functions, files.values()))
    assert called - FUNCTIONS == {"count_star"}


@pytest.mark.parametrize("target", WAREHOUSES)
def test_syntax_that_only_duckdb_has_is_caught(target, tmp_path):
    project = engines.project_with(tmp_path, "purchase_lines", "count(*) as quantity", "quantity: count(*)")
    on_duckdb = engines.dbt("run", "dev", engines.copy_inputs("seed0", tmp_path / "data"), project=project)
    assert on_duckdb.code == 0, on_duckdb.out
    files = compiled(target, tmp_path / "target", project=project)
    assert [path.name for path, sql in files.items() if parse_errors(sql, target)] == ["purchase_lines.sql"]


def project_profile(folder, target, **changes):
    """A folder with the project's profiles.yml, in which the target leads to an emulator."""
    folder.mkdir()
    profiles = yaml.safe_load((stages.ROOT / "dbt" / "profiles.yml").read_text())
    profiles["duckdb-metaflow"]["outputs"][target] |= changes
    (folder / "profiles.yml").write_text(yaml.safe_dump(profiles))
    return folder


@pytest.fixture(scope="session")
def fakesnow():
    """An emulator of Snowflake: what a connection to it needs."""
    import fakesnow

    with fakesnow.server() as connection:
        yield connection


def create_database(connection):
    import snowflake.connector

    with snowflake.connector.connect(**connection) as con:
        con.cursor().execute("create database if not exists shop")


def load_snowflake(connection, data_dir):
    """What dbt/load/snowflake.sql does in Snowflake's own client."""
    import snowflake.connector

    script = (stages.ROOT / "dbt" / "load" / "snowflake.sql").read_text()
    script = re.sub(r"^--.*$", "", script, flags=re.MULTILINE).replace("&{data_dir}", str(data_dir))
    with snowflake.connector.connect(**connection) as con:
        cursor = con.cursor()
        for statement in ["use database shop", *script.split(";")]:
            if statement.strip():
                cursor.execute(statement)


@pytest.mark.parametrize("source", engines.SOURCES)
def test_same_rows_and_same_run_on_fakesnow(source, fakesnow, tmp_path):
    data_dir = engines.by_duckdb(source).folder
    address = {name: fakesnow[name] for name in ("host", "port", "account", "protocol")}
    profile = project_profile(tmp_path / "profile", "snowflake", **address)
    environment = ACCOUNT | {"SNOWFLAKE_USER": fakesnow["user"], "SNOWFLAKE_PASSWORD": fakesnow["password"]}
    create_database(fakesnow)
    made = engines.dbt(
        "run-operation", "snowflake", data_dir, "make_raw_tables", "--profiles-dir", profile, **environment
    )
    assert made.code == 0, made.out
    load_snowflake(fakesnow, data_dir)
    # fakesnow cannot make the temporary tables of dbt's unit tests
    engines.assert_built(
        engines.dbt(
            "build",
            "snowflake",
            data_dir,
            "--exclude-resource-type",
            "unit_test",
            "--profiles-dir",
            profile,
            **environment,
        ),
        tests="40 data tests, 6 view models",
    )
    # The driver's own options, in the URI, lead it to the emulator.
    options = "&".join(f"adbc.snowflake.sql.uri.{name}={fakesnow[name]}" for name in ("host", "port", "protocol"))
    dataset = f"snowflake://fakesnow/SHOP?{options}#hm.filtered_dataframe"
    prepared = stages.flow("--row_sampling", 0, "--dataset", dataset, cwd=tmp_path, **environment)
    engines.assert_same_run(prepared, source)


@contextlib.contextmanager
def crucible(database):
    """An emulator of BigQuery that keeps its tables in the folder of `database`: its address."""
    assert CRUCIBLE.exists(), "make test-warehouses installs it"
    address = f"http://127.0.0.1:{(port := engines.free_port())}"
    with database.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(
            [CRUCIBLE, "serve", "--dialect", "bigquery", "--port", str(port), "--database", database],
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(300):
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(f"{address}/_crucible/health").close()
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def load_crucible(data_dir, database):
    """Put the tables where the emulator keeps them; its own loads take 1.5 ms a row, and no parquet."""
    catalogs = Path(f"{database}.catalogs")
    catalogs.mkdir()
    with duckdb.connect() as con:
        con.execute(f"attach '{database}' as meta (storage_version 'v1.4.0')")
        con.execute("create table meta.main.catalogs (name varchar primary key, file varchar)")
        con.execute(
            "create table meta.main.objects (catalog varchar, schema varchar, name varchar, properties varchar)"
        )
        con.execute(f"insert into meta.main.catalogs values ('shop', '{catalogs}/0.duckdb')")
        con.execute(f"attach '{catalogs}/0.duckdb' as shop (storage_version 'v1.4.0')")
        con.execute("create schema shop.raw")
        for name in engines.INPUTS:
            file = con.read_parquet(str(data_dir / name))
            lower = ", ".join(f'"{column}" as {column.lower()}' for column in file.columns)
            con.execute(f"create table shop.raw.{name} as select {lower} from file")


@pytest.mark.parametrize("source", engines.SOURCES)
def test_same_rows_on_crucible(source, tmp_path):
    data_dir, database = engines.by_duckdb(source).folder, tmp_path / "bigquery"
    load_crucible(data_dir, database)
    with crucible(database) as address:
        profile = project_profile(
            tmp_path / "profile", "bigquery", api_endpoint=address, method="oauth-secrets", token="none"
        )
        engines.assert_built(engines.dbt("build", "bigquery", data_dir, "--profiles-dir", profile, **ACCOUNT))
    with duckdb.connect(f"{database}.catalogs/0.duckdb", read_only=True) as con:
        made = con.sql("from hm.filtered_dataframe").to_arrow_table()
    assert engines.difference(engines.expected(source), made) == []


@pytest.mark.parametrize("target", WAREHOUSES)
def test_a_warehouse_that_cannot_be_reached_is_one_sentence(target, tmp_path):
    dataset = {
        "snowflake": "snowflake://nobody/SHOP?adbc.snowflake.sql.uri.host=127.0.0.1"
        "&adbc.snowflake.sql.uri.port=1&adbc.snowflake.sql.uri.protocol=http"
        "&adbc.snowflake.sql.client_option.login_timeout=1s",
        "bigquery": "bigquery://shop",
    }[target] + "#hm.filtered_dataframe"
    environment = ACCOUNT | {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "no_such_key.json")}
    refused = stages.flow("--row_sampling", 0, "--dataset", dataset, cwd=tmp_path, **environment)
    assert refused.code == 1
    assert "cannot be read: " in refused.out + refused.err
    assert "Traceback" not in refused.out + refused.err
