"""What a file, a name or a parameter may try: none of it becomes SQL, script, a path or a line in a log."""

import gzip
import json
import os
import shutil

import pyarrow.parquet as pq
import pytest
import stages
from card_pages import open_page
from conftest import FIXTURE, copy_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stages import PYTHON, ROOT, artifacts, create, create_process, dbt, flow, run, snapshot

from prep.errors import PrepError
from prep.manifest import File, Inside, checksum, content_of, parse
from prep.uri import fault, shown

pytestmark = pytest.mark.faults

STAGE_1, STAGE_2, RESULT = "create_parquet_dataset.json", "filtered_dataframe.json", "filtered_dataframe.parquet"
SECRET = "hunter2"
SCRIPT = "<img src=x onerror=window.hit=1>"


def with_metadata(folder, metadata, name="that.parquet"):
    """The data set under another name, with this metadata: {text: text}."""
    table = pq.ParquetFile(folder / RESULT).read()
    table = table.replace_schema_metadata({key.encode(): value.encode() for key, value in metadata.items()})
    pq.write_table(table, folder / name)
    return folder / name


def one_sentence(result):
    """The command failed and said why, without a traceback."""
    text = result.out + result.err
    assert result.code not in (0, None), text
    assert "Traceback" not in text, text
    return text


def lineage_with(folder, **changes):
    record = json.loads((folder / STAGE_2).read_text())
    inside = {key: record[key] for key in ("vars", "create_parquet_dataset")}
    inside["vars"] |= changes
    return json.dumps(inside)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_interactions": "1); copy (select 42) to 'p.csv'; select 0 --"},
        {"training_end_date": "2020-09-08'); copy (select 42) to 'p.csv'; --"},
        {"training_end_date": SCRIPT},
        {"min_interactions": 10**41},
        {"min_interactions": 1.5},
        {"training_end_date": "2020-09-08T00:00:00+02:00"},
        {"other": "key"},
    ],
    ids=str,
)
def test_what_a_file_says_of_itself_is_no_sql(made, changes):
    path = with_metadata(made, {"lineage": lineage_with(made, **changes)})
    before = snapshot(made)
    text = one_sentence(flow("--row_sampling", 0, "--dataset", path.name, cwd=made))
    assert "that.parquet" in text and f"vars.{next(iter(changes))}" in text, text
    assert {name: content for name, content in snapshot(made).items() if ".metaflow" not in name.parts} == before


def test_the_records_are_parsed_too(made):
    """Anybody may write a record with a checksum that fits."""
    for name, key in ((STAGE_1, "by"), (STAGE_1, "seed"), (STAGE_1, "rows"), (STAGE_2, "vars"), (STAGE_2, "left_out"),
                      (STAGE_2, "outputs")):  # fmt: skip
        whole = (made / name).read_text()
        record = json.loads(whole)
        record.pop("checksum")
        record[key] = "'; copy (select 42) to 'p.csv'; --"
        (made / name).write_text(json.dumps(record | {"checksum": checksum(record)}))
        result = dbt("run", made) if name == STAGE_1 else flow("--row_sampling", 0, cwd=made)
        text = one_sentence(result)
        assert name in text and key in text and "p.csv" not in text, text
        assert "is not as this project writes it" in text
        (made / name).write_text(whole)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**40, 10**60) | st.floats() | st.text()
    | st.sampled_from([SCRIPT, "1); copy (select 42) to 'p.csv'; --", "2020-09-08", "9999-12-31", "0000-00-00"]),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(max_size=5), value, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = st.sampled_from(
    ["vars", "vars.training_end_date", "vars.min_interactions", "create_parquet_dataset", "create_parquet_dataset.rows",
     "create_parquet_dataset.outputs", "create_parquet_dataset.seed", "customers_by_lines", "left_out.by_day",
     "outputs", "lineage", "training_end_date", "new"]
)  # fmt: skip


def put(record, key, value):
    *parents, last = key.split(".")
    for parent in parents:
        record = record[parent]
    record[last] = value


def test_hostile_metadata_is_refused_or_the_run_is_good(made):
    """300 values at the opening checks of the flow, half of them with a record that matches the content."""
    tried = {"refused": 0, "good": 0}
    outside = set(snapshot(made.parent)) | {made.name}

    @settings(max_examples=300, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(KEYS, VALUES, st.booleans())
    def attack(key, value, matching):
        record = json.loads((made / STAGE_2).read_text())
        record.pop("checksum")
        marks = {"training_end_date": "2020-09-08"}
        if key in ("lineage", "training_end_date"):
            marks[key] = value if isinstance(value, str) else json.dumps(value)
        else:
            put(record, key, value)
        inside = {name: record[name] for name in record if name in ("vars", "create_parquet_dataset", "new")}
        folder = made.parent / "attacked"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(made / RESULT, folder / RESULT)
        texts = {"lineage": json.dumps(inside)} | marks
        try:
            with_metadata(folder, texts, RESULT)
        except UnicodeEncodeError:  # a lone surrogate cannot stand in a file
            return
        if matching:
            record["outputs"] = [content_of(folder / RESULT)]
            text = json.dumps(record | {"checksum": checksum(record)})
            (folder / STAGE_2).write_text(text)
        try:
            found, _ = stages.check(folder / RESULT)
        except PrepError as refusal:
            assert "\n" not in str(refusal)
            tried["refused"] += 1
        else:
            assert set(found) <= {
                "vars",
                "create_parquet_dataset",
                "customers_by_lines",
                "left_out",
                "outputs",
                "format",
                "dataset",
            }
            assert isinstance(found.get("vars", {}).get("min_interactions", 1), int)
            tried["good"] += 1
        assert set(os.listdir(folder)) <= {RESULT, STAGE_2}

    attack()
    shutil.rmtree(made.parent / "attacked")
    assert set(snapshot(made.parent)) | {made.name} == outside
    assert tried["refused"] > 100 and tried["good"] > 5, tried


def test_stage_3_can_touch_nothing_but_its_data(made):
    """The DuckDB of stage 3, asked for more by whoever gets SQL into it."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); from prep import duck; import duckdb\n"
        "con = duck.connect(spill_to=Path('spill'), only=[Path('filtered_dataframe.parquet').resolve()])\n"
        "print(len(con.sql(f\"from {duck.scan(Path('filtered_dataframe.parquet').resolve())}\")))\n"
        "for query in (\"copy (select 42) to 'p.csv'\", \"from read_csv('articles.csv')\", \"attach 'x.db'\",\n"
        '    "from read_text(\'/etc/passwd\')", "install httpfs", "set enable_external_access = true",\n'
        "    \"set allowed_paths = ['/']\", \"from 'http://127.0.0.1:1/x.parquet'\", 'from sys', \"from glob('*')\"):\n"
        "    try:\n"
        "        print('did it:', query, con.sql(query))\n"
        "    except duckdb.Error as error:\n"
        "        print('refused')\n"
    )
    before = set(os.listdir(made))
    result = run(PYTHON, "-c", script, ROOT, cwd=made)
    assert result.code == 0, result.err
    assert int(result.out.split()[0]) > 0 and "did it" not in result.out, result.out
    assert set(os.listdir(made)) == before


# The card


def test_nothing_hostile_runs_on_the_card(made, browser, tmp_path):
    """Script in every field that comes from data, a file's or a folder's name, a parameter or metadata."""
    folder = tmp_path / "<b onmouseover=window.hit=1>[x](javascript:window.hit=1)"
    shutil.copytree(made, folder)
    for file in ("articles", "customers", "transactions_train"):
        for path in folder.glob(f"{file}.csv"):
            text = (
                path.read_text().replace("Garment Upper body", SCRIPT).replace("1" * 64, SCRIPT.replace("window.", ""))
            )
            path.write_text(text)
    assert create("--data-dir", folder).code == 0
    assert dbt("run", folder).code == 0
    names = (f"{SCRIPT}.parquet", "[x](javascript:window.hit=1).parquet", "<script>window.hit=1</script>.parquet")
    for name in names:
        name = name.replace("/", "\N{DIVISION SLASH}")
        (folder / name).write_bytes((folder / RESULT).read_bytes())
        result = flow("--row_sampling", 0, "--dataset", folder / name, cwd=folder)
        assert result.code == 0, result.out + result.err
        page = run(PYTHON, ROOT / "data_prep.py", "card", "get", f"{stages.run_of(result).id}/get_dataset", cwd=folder)
        assert page.code == 0, page.err
        opened, errors = open_page(browser, page.out, tmp_path, 1280)
        opened.get_by_text("Leak check, parameters and origin").click()
        opened.mouse.move(640, 400)
        opened.wait_for_timeout(300)
        assert opened.evaluate("window.hit") is None, name
        assert (
            opened.locator("a[href^=javascript], .mf-card img:not([src^=data]), .mf-card b[onmouseover]").count() == 0
        )
        assert errors == []
        text = opened.inner_text("body")
        assert name in text, "the name is shown as it is"
        opened.close()


# Secrets


SECRETS = [
    f"postgres://bob:{SECRET}@db/x#hm.t",
    f"postgresql://bob:{SECRET}@db/x#hm.t",
    f"postgresql://bob:{SECRET}/ter2@db/x#hm.t",
    f"postgresql://bob:{SECRET}#ter2@db/x#hm.t",
    f"postgresql://bob:{SECRET}?ter2@db/x#hm.t",
    f"postgresql://bob:x@{SECRET}@db/x#hm.t",
    f"postgresql://db/x?password={SECRET}#hm.t",
    f"postgresql://db/x?sslmode=require&passfile={SECRET}#hm.t",
    f"postgresql://db/x?sslpassword=a@{SECRET}#hm.t",
    f"snowflake://account/SHOP?adbc.snowflake.sql.auth_token={SECRET}#hm.t",
    f"snowflake://account/SHOP?adbc.snowflake.sql.client_option.jwt_private_key={SECRET}#hm.t",
    f"bigquery://shop?adbc.bigquery.sql.auth_credentials={SECRET}#hm.t",
    f"mysql://bob:{SECRET}@db/x#hm.t",
    f"POSTGRESQL://bob:{SECRET}@db/x#hm.t",
    f"jdbc:postgresql://bob:{SECRET}@db/x#hm.t",
    f"postgresql:/bob:{SECRET}@db/x#hm.t",
]


@pytest.mark.parametrize("uri", SECRETS)
@pytest.mark.parametrize("way", ["--dataset URI", "--dataset=URI", "METAFLOW_RUN_DATASET"])
def test_no_secret_is_shown_or_stored(uri, way, tmp_path):
    assert fault(uri) and SECRET not in shown(uri) and SECRET not in fault(uri)
    store = {"METAFLOW_DATASTORE_SYSROOT_LOCAL": str(tmp_path)}
    if way == "METAFLOW_RUN_DATASET":
        result = flow(cwd=tmp_path, METAFLOW_RUN_DATASET=uri, **store)
    else:
        result = flow(*(["--dataset", uri] if way == "--dataset URI" else [f"--dataset={uri}"]), cwd=tmp_path, **store)
    text = one_sentence(result)
    assert SECRET not in text
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    left = [gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content for content in left]
    assert not any(SECRET.encode() in content for content in left)


def test_where_the_secret_is_stored_already_the_sentence_says_so(tmp_path):
    """As by a scheduler that imports the flow: Metaflow stores parameters before our first line runs."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = {str(ROOT / 'data_prep.py')!r}\n"
        "import data_prep; data_prep.DataPrepFlow()"
    )
    (tmp_path / "start.py").write_text(script)
    result = run(PYTHON, tmp_path / "start.py", "run", "--dataset", SECRETS[1], cwd=tmp_path,
                 METAFLOW_DATASTORE_SYSROOT_LOCAL=str(tmp_path))  # fmt: skip
    text = one_sentence(result)
    assert SECRET not in text and "has stored the parameter already" in text, text


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("postgresql://#hm.t", "postgresql://#hm.t"),
        ("postgresql://bob@db:5432/x?sslmode=require#hm.t", "postgresql://db:5432/x#hm.t"),
        ("snowflake://account/SHOP?adbc.snowflake.sql.region=eu#hm.t", "snowflake://account/SHOP#hm.t"),
        ("bigquery://my-shop#hm.t", "bigquery://my-shop#hm.t"),
    ],
)
def test_a_uri_without_a_secret_is_taken_and_shown_without_user_and_options(uri, text):
    assert fault(uri) is None and shown(uri) == text


def test_no_customer_is_in_the_log(hand_made):
    printed = hand_made.prepared.out + hand_made.prepared.err
    row = next(line for line in printed.splitlines() if "Example row " in line)
    assert "'article_id': " in row and "'price': " in row and "'t_dat': " in row
    for column in ("customer_id", "age", "postal_code", "fn", "active", "club_member_status", "fashion_news_frequency"):
        assert f"'{column}'" not in row
    for customer in set(artifacts(hand_made.prepared).label_to_dataset["train"]["customer_id"].to_pylist()):
        assert customer not in printed


# Links


TEMPORARY = [".unfinished.tmp", "articles.tmp", "rejects.csv.tmp", f"{STAGE_1}.tmp", f"{STAGE_2}.tmp", f"{RESULT}.tmp"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_no_link_is_followed(tmp_path, what):
    folder, victim = copy_csv(FIXTURE, tmp_path / "data"), tmp_path / "victim"
    if what == "file":
        victim.write_text("precious")
    else:
        victim.mkdir()
        (victim / "precious").write_text("precious")
    before = snapshot(tmp_path / "victim") if what == "folder" else victim.read_text()
    for name in TEMPORARY:
        (folder / name).symlink_to(victim)
    for name in ("articles", RESULT, STAGE_1, STAGE_2):  # an output that is a link is replaced, not followed
        (folder / name).symlink_to(tmp_path / "nothing there")
    assert create_process("--data-dir", folder).code == 0
    assert dbt("run", folder).code == 0
    assert (snapshot(tmp_path / "victim") if what == "folder" else victim.read_text()) == before
    assert not (tmp_path / "nothing there").exists()
    for name in ("articles", "customers", "transactions_train", RESULT, STAGE_1, STAGE_2):
        assert (folder / name).is_file() and not (folder / name).is_symlink()


def test_a_name_in_a_record_is_no_path():
    for name in ("../x", "/etc/passwd", "a/b", "", "a\nb"):
        with pytest.raises(PrepError):
            parse(File, json.dumps({"name": name, "bytes": 1, "sha256": "0" * 64}), "here", "mend it")
    with pytest.raises(PrepError, match="here"):
        parse(Inside, "[" * 100_000, "here", "mend it")
