"""What the tests of the other engines share: the data sets, DuckDB's result, and how it is compared."""

import functools
import json
import shutil
import socket

import duckdb
import pytest
import stages
import synthetic
from conftest import HM_REAL, SURROUNDINGS, copy_csv

SOURCES = ["seed0", "seed1", "hm_real"]
INPUTS = ("articles", "customers", "transactions_train")
# Runs on DuckDB and on no other engine: what must not get into a model.
DUCKDB_ONLY = ("purchase_lines", "count(*) as quantity", "count_star() as quantity")


@functools.cache
def by_duckdb(source):
    """A data set after all three stages on DuckDB; tests only read it. Of seed 1, half the customers."""
    folder = SURROUNDINGS / "by_duckdb" / source
    if source == "hm_real":
        if not HM_REAL.is_dir():
            pytest.skip("the real rows are not here")
        copy_csv(HM_REAL, folder)
    else:
        synthetic.generate(folder, 0.001, int(source[-1]))
    return stages.whole_way(folder, fraction=0.5 if source == "seed1" else 1)


def copy_inputs(source, folder):
    """The three parquet files, in a folder in which another engine may write."""
    folder.mkdir(parents=True)
    for name in INPUTS:
        shutil.copyfile(by_duckdb(source).folder / name, folder / name)
    return folder


def dbt(command, target, data_dir, *options, project=stages.ROOT / "dbt", **environment):
    """dbt build --target TARGET, say."""
    variables = json.dumps({"data_dir": str(data_dir)})
    return stages.run(
        stages.DBT, command, "--target", target, "--vars", variables, *options, cwd=project, **environment
    )


def assert_built(result, tests="40 data tests, 6 unit tests"):
    """All models and tests ran, and none failed or was left out."""
    assert result.code == 0, result.out[-5000:] + result.err[-5000:]
    assert tests in result.out
    assert " ERROR=0 SKIP=0 " in result.out


def rows(path):
    """A parquet file, or a folder of part files, as a pyarrow.Table in its own order."""
    with duckdb.connect() as con:
        return con.read_parquet(str(path)).to_arrow_table()


def expected(source):
    """The rows of DuckDB's filtered_dataframe."""
    return rows(by_duckdb(source).folder / "filtered_dataframe.parquet")


def difference(left, right):
    """The rows that one of two pyarrow.Tables has and the other has not, or less often, both ways.

    The columns must have the same names, order and types (as DuckDB reads them).
    """
    assert left.schema.names == right.schema.names
    with duckdb.connect() as con:
        con.register("a", left)
        con.register("b", right)
        assert con.table("a").types == con.table("b").types
        return con.sql("from (from a except all from b) union all from (from b except all from a)").fetchall()


def assert_same_run(prepared, source):
    """The flow made of another engine's rows what it made of DuckDB's: in every table, row by row."""
    assert prepared.code == 0, prepared.out + prepared.err
    left, right = stages.artifacts(by_duckdb(source).prepared), stages.artifacts(prepared)
    for label, table in left.label_to_dataset.items():
        assert stages.frame(table).equals(stages.frame(right.label_to_dataset[label])), label
    assert all(split["fingerprint"] for split in left.summary.values())
    assert left.summary == right.summary  # and so the fingerprints
    assert left.item_id_2_meta == right.item_id_2_meta


def project_with(folder, model, old, new):
    """A copy of the dbt project in which `new` stands for `old` in one model."""
    project = folder / "dbt"
    shutil.copytree(stages.ROOT / "dbt", project, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(stages.ROOT / "prep", folder / "prep")  # where the target dev looks for it
    (path,) = project.glob(f"models/**/{model}.sql")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return project


def free_port():
    """A port of the loopback address that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
