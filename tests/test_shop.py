"""The shop's YAML: each fact is read from it, and a fault in it is said in one sentence."""

import ast
import io
import os
import re
import resource
import shutil
import subprocess
import tokenize

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stages
import yaml
from pandas_pipeline import COLUMNS
from stages import ROOT, create, create_process, dbt, parquet

from prep.errors import PrepError
from prep.parquet import in_order, with_unique_key
from prep.shop import Shop, read_shop

SOURCES = "models/staging/sources.yml"
WIDE = "models/marts/filtered_dataframe.yml"
# Roles, and plain English words that are columns too.
WORDS = {"price", "quantity", "age", "active"}


def test_what_is_published_for_hm_stands_in_the_contract():
    shop = read_shop()
    assert shop.names == COLUMNS
    assert (shop.user, shop.item, shop.time) == ("customer_id", "article_id", "t_dat")
    assert shop.grain == ("t_dat", "customer_id", "article_id", "sales_channel_id", "price")
    assert (shop.training_end_date, shop.validation_end_date) == ("2020-09-08", "2020-09-15")
    assert [shop.schema.types.count(kind) for kind in (pa.int64(), pa.float64(), pa.string())] == [13, 4, 6]
    assert Shop(**shop.model_dump()) == shop  # as the artifact that the later steps read


def test_no_column_of_hm_stands_in_python():
    """The names come from dbt's YAML; names and texts of the code count, comments and docstrings do not."""
    shop = read_shop()
    columns = {column.name for table in shop.tables for column in table.columns} | set(shop.names)
    columns = (columns - WORDS) | {"transactions_train"}
    files = [ROOT / "create_parquet_dataset.py", ROOT / "data_prep.py", *(ROOT / "prep").rglob("*.py")]
    assert len(files) > 20 and len(columns) > 30
    for file in files:
        text = file.read_text()
        spoken = {
            node.body[0].lineno
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        }
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.NAME, tokenize.STRING) and token.start[0] not in spoken:
                found = set(re.findall(r"\w+", token.string)) & columns
                assert not found, f"{file.name}, line {token.start[0]}: {found}"


@pytest.fixture
def project(tmp_path):
    """A copy of H&M's project that a test may spoil."""
    folder = tmp_path / "shop"
    for name in ("dbt_project.yml", SOURCES, WIDE, "models/marts/items.yml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text((ROOT / "dbt" / name).read_text())
    return folder


def changed(project, file, old, new):
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))
    return project


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (WIDE, "role: user_id", "of: user", "the role user_id of the model that holds the purchases must be a column"),
        (WIDE, "role: user_id", "role: buyer", r"docs/your-own-shop.md tells: role: Input should be 'item_id'"),
        (WIDE, "holds: purchases", "holds: nothing", "has `holds: purchases` in its config.meta"),
        (WIDE, "grain: [t_dat,", "grain: [day,", "each part of the grain .*'day' is none"),
        (WIDE, "data_type: *datetime", "data_type: json", "data_type: Input should be 'bigint'"),
        (WIDE, "models:", "models: [", "cannot be read as YAML"),
        ("dbt_project.yml", "  validation_end_date", "  validation", "lacks validation_end_date under vars"),
        (SOURCES, "holds: purchases", "holds: users, key: customer_id", "one source table, and only one"),
        (SOURCES, "user: customer_id", "user: buyer", "user of transactions_train must be a column .*'buyer' is none"),
        (SOURCES, "key: article_id", "key: sku", "key of articles must be a column .*'sku' is none"),
        (SOURCES, "data_type: date", "data_type: day", "data_type: Input should be 'varchar'"),
        (SOURCES, "called: a code", "caled: a code", "caled: Extra inputs are not permitted"),
    ],
)
def test_a_fault_in_the_yaml_is_one_sentence(project, file, old, new, sentence):
    with pytest.raises(PrepError, match=sentence) as refusal:
        read_shop(changed(project, file, old, new))
    assert "\n" not in str(refusal.value) and str(project) in str(refusal.value)


@pytest.mark.parametrize("stage", ["create_parquet_dataset.py", "data_prep.py"])
def test_a_project_that_is_none(tmp_path, stage):
    command = [stages.PYTHON, ROOT / stage, *(["run"] if stage == "data_prep.py" else []), "--project", tmp_path]
    result = stages.run(*command, cwd=tmp_path)
    assert result.code == 1
    text = result.out + result.err
    assert text.count(f"{tmp_path} is no dbt project (it has no dbt_project.yml)") == 1
    assert "Traceback" not in text


def test_a_column_is_carried_through_by_yaml_and_sql_alone(data, tmp_path):
    """Kaggle's section_name into the wide rows: two files under dbt/."""
    project = tmp_path / "dbt"
    shutil.copytree(ROOT / "dbt", project, ignore=shutil.ignore_patterns("target", "logs"))
    shutil.copytree(ROOT / "prep", tmp_path / "prep")
    marts = "models/marts/filtered_dataframe"
    changed(project, f"{marts}.sql", "    kept_lines.price,", "    articles.section_name,\n    kept_lines.price,")
    column = "      - {name: section_name, data_type: *text, config: {meta: {of: item}}}\n      - name: price"
    changed(project, f"{marts}.yml", "      - name: price", column)
    assert create("--data-dir", data).code == 0
    made = stages.run(stages.DBT, "run", "--vars", f"data_dir: {data}", cwd=project)
    assert made.code == 0, made.out
    prepared = stages.flow(
        "--row_sampling", 0, "--project", project, "--dataset", data / "filtered_dataframe.parquet", cwd=data
    )
    assert prepared.code == 0, prepared.out
    tables = stages.artifacts(prepared).label_to_dataset
    at = COLUMNS.index("price")
    assert tables["train"].schema.names == [*COLUMNS[:at], "section_name", *COLUMNS[at:]]
    names = parquet(data / "articles").set_index("article_id").section_name
    train = tables["train"].to_pandas()
    assert list(train.section_name) == [names[f"{article:010d}"] for article in train.article_id]


def test_a_yaml_that_is_edited_meanwhile_changes_nothing(made, project):
    """What start has read goes along as an artifact, so resume goes on with it."""
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(made)}
    command = [stages.PYTHON, ROOT / "data_prep.py", "run", "--row_sampling", "0", "--project", project]
    failed = subprocess.run(
        [*map(str, command), "--dataset", str(made / "filtered_dataframe.parquet")],
        cwd=made,
        capture_output=True,
        text=True,
        env=os.environ | store,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_500, 5_500)),  # too small for a split
    )
    assert failed.returncode != 0 and "get_dataset" in failed.stdout + failed.stderr
    changed(project, "dbt_project.yml", "2020-09-15", "2020-09-18")
    changed(project, WIDE, "of: user, role: user_id", "of: purchase, role: user_id")
    resumed = stages.run(stages.PYTHON, ROOT / "data_prep.py", "resume", cwd=made, **store)
    assert resumed.code == 0, resumed.out + resumed.err
    example = re.search(r"Example row (.*)", resumed.out)[1]
    assert "sales_channel_id" in example and "customer_id" not in example
    assert "valid 2020-09-08 to 2020-09-14" in resumed.out


# Raw tables that are parquet files


@pytest.fixture
def as_parquet(hand_made, tmp_path):
    """The hand-made raw files as parquet files with types, in place of CSV files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("articles", "customers", "transactions_train"):
        table = pq.ParquetFile(hand_made.folder / name).read().replace_schema_metadata()
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def test_parquet_files_make_the_same_tables(as_parquet, hand_made):
    result = create("--data-dir", as_parquet)
    assert result.code == 0, result.err
    for name in ("articles", "customers", "transactions_train"):
        made, expected = (pq.ParquetFile(folder / name).read() for folder in (as_parquet, hand_made.folder))
        assert made.equals(expected)
    half = create(0.5, "--data-dir", as_parquet)
    assert half.code == 0 and 0 < pq.read_metadata(as_parquet / "transactions_train").num_rows < 40


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("price", float("nan"), "'nan', which is not a number"),
        ("price", None, "an empty cell"),
        ("sales_channel_id", 2.5, "'2.5', which is not a whole number"),
        ("article_id", "123", "'123', which is not an article_id of 10 digits"),
        ("t_dat", "2020-02-30", "'2020-02-30', which is not a date"),
    ],
)
def test_a_broken_rule_in_a_parquet_file_is_an_error(as_parquet, column, value, words):
    path = as_parquet / "transactions_train.parquet"
    table = pq.read_table(path)
    cells = table[column].cast(pa.string()) if isinstance(value, str) else table[column]
    cells = [*cells.to_pylist()[:-1], value]
    cells = [float(cell) for cell in cells] if value == 2.5 else cells
    table = table.set_column(table.schema.get_field_index(column), column, pa.array(cells))
    pq.write_table(table, path)
    before = stages.snapshot(as_parquet)
    result = create("--data-dir", as_parquet, "--max-bad-rows", 5)
    assert result.code == 1
    assert re.search(rf"transactions_train.parquet, column {column}: 1 rows .*{words}", result.err), result.err
    assert stages.snapshot(as_parquet) == before


def test_a_parquet_file_that_is_none_or_lacks_a_column(as_parquet):
    path = as_parquet / "transactions_train.parquet"
    whole = path.read_bytes()
    pq.write_table(pq.read_table(path).drop_columns(["price"]), path)
    assert "lacks the column price" in create("--data-dir", as_parquet).err
    path.write_bytes(whole[:100])
    assert "cannot be read as parquet" in create_process("--data-dir", as_parquet).err
    path.with_suffix(".csv").write_bytes(b"t_dat\n")
    assert "two files of one table: remove one of them" in create("--data-dir", as_parquet).err


def test_files_without_the_optional_columns(data):
    """Kaggle's names are carried along where they are there; without them the items have none."""
    table = pd.read_csv(data / "articles.csv", dtype=str, keep_default_na=False)
    names = [name for name in table if name.endswith("_name") and name != "product_group_name"] + ["detail_desc"]
    table.drop(columns=names).to_csv(data / "articles.csv", index=False, lineterminator="\n")
    assert create("--data-dir", data).code == 0
    assert dbt("run", data).code == 0
    items = parquet(data / "items.parquet")
    assert len(items.columns) == 25 and items[names].isna().all(axis=None) and items.department_no.notna().all()


def test_items_of_another_data_set_are_left_aside(hand_made, tmp_path):
    """Beside a file that nothing proves: they must describe each item of the rows, as the rows do."""
    rows = pq.ParquetFile(hand_made.folder / "filtered_dataframe.parquet").read().replace_schema_metadata()
    pq.write_table(rows, tmp_path / "filtered_dataframe.parquet")
    items = pq.ParquetFile(hand_made.folder / "items.parquet").read()
    other = items.set_column(1, "product_code", pa.array([1] * len(items)))
    twice = pa.concat_tables([items, items.slice(0, 1)])
    for table, columns, said in (
        (items, 25, False), (other, 13, True), (items.slice(2), 13, True), (twice, 13, True)
    ):  # fmt: skip
        pq.write_table(table, tmp_path / "items.parquet")
        prepared = stages.flow("--row_sampling", 0, cwd=tmp_path)
        assert prepared.code == 0, prepared.out
        meta = stages.artifacts(prepared).item_id_2_meta
        assert {len(row) for row in meta.values()} == {columns}
        assert ("the item table beside the data set is of another one" in prepared.out) == said
    (tmp_path / "items.parquet").write_bytes(b"PAR1, they say")
    refused = stages.flow("--row_sampling", 0, cwd=tmp_path)
    text = refused.out + refused.err
    assert refused.code == 1 and text.count("the item table items.parquet beside the data set") == 1
    assert "Traceback" not in text


# The order of a join


def batches(places):
    return [pa.record_batch({"at": part, "place": part}) for part in places]


@pytest.mark.parametrize(
    "places",
    [
        [[0, 1, 2], [3, 4]],
        [[3, 4], [0, 1, 2]],
        [[4, 0, 3], [1, 2]],
        [[], [1], [0], []],
        [[0, 1, 5], [2, 6]],  # 3 and 4 were left out by the join
    ],
)
def test_rows_come_back_in_their_order(places):
    typed = [pa.array(part, pa.int64()) for part in places]
    rows = [row for batch in in_order(batches(typed), "place") for row in batch.column("at").to_pylist()]
    assert rows == sorted(place for part in places for place in part)


def test_a_row_that_the_join_doubled_is_seen():
    doubled = in_order(batches([pa.array([0, 1, 1, 2])]), "place")
    with pytest.raises(PrepError, match="two rows with one at, the row key"):
        list(with_unique_key(doubled, ["at"], "the result"))


def test_a_type_that_hangs_on_the_engine_is_duckdbs():
    assert "{{" in str(yaml.safe_load((ROOT / "dbt" / WIDE).read_text())["models"][0]["columns"][0]["data_type"])
    assert read_shop().columns[0].data_type == "bigint"
