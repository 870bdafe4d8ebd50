"""dbt's documentation as one HTML file: it needs no data, and leaves no model or column out."""

import json

import duckdb
import pyarrow.parquet as pq
import pytest
import stages


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """The folder in which the commands of `make docs` leave their files."""
    folder = tmp_path_factory.mktemp("docs")
    for command in (["parse"], ["docs", "generate", "--static", "--no-compile", "--empty-catalog"]):
        done = stages.run(stages.DBT, "--quiet", *command, cwd=stages.ROOT / "dbt", DBT_TARGET_PATH=str(folder))
        assert done.code == 0, done.out + done.err
    return folder


def test_one_file_holds_the_models_and_the_graph(target):
    page = (target / "static_index.html").read_text(encoding="utf-8")
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    assert json.dumps(manifest["nodes"]["model.hm.filtered_dataframe"]["description"]) in page
    graph = {
        child.rpartition(".")[2]: sorted(parent.rpartition(".")[2] for parent in parents)
        for child, parents in manifest["parent_map"].items()
        if child.startswith("model.")
    }
    assert graph == {
        "articles_staging": ["articles"],
        "customers_staging": ["customers"],
        "transactions_staging": ["transactions_train"],
        "items": ["articles_staging"],
        "purchase_lines": ["articles_staging", "customers_staging", "transactions_staging"],
        "histories": ["purchase_lines"],
        "kept_lines": ["histories", "purchase_lines"],
        "filtered_dataframe": ["articles_staging", "customers_staging", "items", "kept_lines"],
    }


def test_every_model_and_every_column_is_described(target, data):
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    for node in [*models, *manifest["sources"].values()]:
        assert node["description"], node["name"]
    described = {
        node["name"]: [column for column, facts in node["columns"].items() if facts["description"]] for node in models
    }
    assert stages.create("--data-dir", data).code == 0
    for node in manifest["sources"].values():
        columns = [column for column, facts in node["columns"].items() if facts["description"]]
        assert sorted(columns) == sorted(pq.read_schema(data / node["name"]).names), node["name"]
    assert stages.dbt("compile", data, DBT_TARGET_PATH=str(data)).code == 0
    compiled = {path.stem: path.read_text() for path in data.glob("compiled/hm/models/*/*.sql")}
    assert sorted(compiled) == sorted(described)
    con = duckdb.connect()
    con.execute("create schema raw")
    for name in ("articles", "customers", "transactions_train"):
        con.execute(f"create view raw.{name} as from read_parquet('{data / name}')")
    for name in ("articles_staging", "customers_staging", "transactions_staging", "items", "purchase_lines",
                 "histories", "kept_lines", "filtered_dataframe"):  # fmt: skip
        query = compiled[name].replace('"memory".', "")
        con.execute(f"create {'table' if 'lines' in name else 'view'} {name} as {query}")
        columns = [row[0] for row in con.sql(f"describe {name}").fetchall() if row[0] != "__place"]
        assert described[name] == columns, name
