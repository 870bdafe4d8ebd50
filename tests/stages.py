"""The three stages as a user runs them, and their results as plain tables."""

import base64
import contextlib
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pandas_pipeline
import pyarrow as pa
import pyarrow.parquet as pq

import create_parquet_dataset
from prep.shop import read_shop
from prep.split.dataset import check_dataset, open_dataset, parse_day

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
DBT = Path(sys.executable).with_name("dbt")
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["dbt.cli.main", "dbt.adapters.duckdb", "pandas", "pyarrow.parquet"])


SHOP = read_shop()
SCHEMA = SHOP.schema


class Result(NamedTuple):
    """What a command left: its exit code and its two outputs."""

    code: int
    out: str
    err: str


def run(*command, cwd=ROOT, threads=None, **environment):
    """Run a command as a process of its own, in which DuckDB has so many threads."""
    if threads:
        environment["SLURM_CPUS_ON_NODE"] = str(threads)  # where DuckDB looks first
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, env=os.environ | environment
    )
    return Result(done.returncode, done.stdout, done.stderr)


def create(*arguments):
    """create_parquet_dataset.py, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = create_parquet_dataset.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            code = stop.code
    return Result(code or 0, out.getvalue(), err.getvalue())


def create_process(*arguments, **options):
    """create_parquet_dataset.py, as a user starts it."""
    return run(PYTHON, ROOT / "create_parquet_dataset.py", *arguments, **options)


def dbt(command, data_dir, variables=None, threads=None, **environment):
    """dbt run, say, with the project's own profile.

    A process of its own, forked from one that has imported dbt, which saves seconds.
    """
    if threads:
        environment["SLURM_CPUS_ON_NODE"] = str(threads)
    arguments = [command, "--vars", json.dumps({"data_dir": str(data_dir), **(variables or {})})]
    with tempfile.NamedTemporaryFile("r") as output:
        process = FORK.Process(target=run_dbt, args=(arguments, environment, output.name))
        process.start()
        process.join()
        return Result(process.exitcode, output.read(), "")


def run_dbt(arguments, environment, output):
    """What the forked process does."""
    from dbt.cli.main import cli

    os.environ.update(environment)
    os.chdir(ROOT / "dbt")
    file = os.open(output, os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    cli(arguments)


def dbt_process(command, data_dir, **options):
    """dbt, as a user starts it."""
    return run(DBT, command, "--vars", f"{{data_dir: {data_dir}}}", cwd=ROOT / "dbt", **options)


def flow(*arguments, **options):
    """data_prep.py run."""
    return run(PYTHON, ROOT / "data_prep.py", "run", *arguments, **options)


def check(path, day="2020-09-08"):
    """What start asks of the data set: (lineage, notices)."""
    with tempfile.TemporaryDirectory() as folder:
        return check_dataset(open_dataset(str(path), SHOP, Path(folder)), parse_day("day", day), Path(folder))


def run_of(result):
    """The run that the flow printed, by Metaflow's Client."""
    import metaflow

    metaflow.namespace(None)
    return metaflow.Run("DataPrepFlow/" + re.search(r"run id: (\S+)", result.out)[1])


def artifacts(result):
    """The artifacts of that run."""
    return run_of(result).data


def frame(table):
    """A pyarrow.Table as pandas, dictionary-encoded text as plain text."""
    return pa.table(
        {
            field.name: column.cast(field.type.value_type) if pa.types.is_dictionary(field.type) else column
            for field, column in zip(table.schema, table.columns, strict=True)
        }
    ).to_pandas()


def expected(*labels):
    """The tables worked out by hand, one after the other."""
    table = pd.concat(
        [pandas_pipeline.read_csv(ROOT / "tests" / "fixture" / "expected" / f"{label}.csv") for label in labels],
        ignore_index=True,
    )
    integers = [name for name in pandas_pipeline.COLUMNS[:13] if name not in pandas_pipeline.ARTICLE_TEXTS]
    return table.astype(
        dict.fromkeys([*integers, "sales_channel_id", "quantity"], "int64")
        | dict.fromkeys(["active", "fn", "age", "price"], "float64")
        | {"t_dat": "datetime64[us]"}
    )


def parquet(path):
    """A parquet file as pandas, with the types of the file."""
    return pq.ParquetFile(path).read().to_pandas()


class DataSet(NamedTuple):
    """A folder after all three stages, and what each printed."""

    folder: Path
    created: Result
    transformed: Result
    prepared: Result


def whole_way(folder, fraction=1, by="customer", seed=0, variables=None, flow_options=()):
    """All three stages on the CSV files of the folder."""
    created = create(fraction, "--by", by, "--seed", seed, "--data-dir", folder)
    assert created.code == 0, created.err
    transformed = dbt("run", folder, variables)
    assert transformed.code == 0, transformed.out
    prepared = flow("--row_sampling", 0, *flow_options, cwd=folder)
    assert prepared.code == 0, prepared.out + prepared.err
    return DataSet(folder, created, transformed, prepared)


def snapshot(folder):
    """{path: bytes} of all files below folder."""
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def base64_text(text):
    """What Metaflow's page carries, as text."""
    return base64.b64decode(text).decode()
