"""Where every row went and where every file came from: rejects, records, fingerprints, leaks."""

import csv
import datetime
import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import compare_runs
import duckdb
import metaflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stages
import synthetic
from conftest import FIXTURE, copy_csv
from pandas_pipeline import filtered_dataframe, read_csv, split
from stages import PYTHON, ROOT, artifacts, create, create_process, dbt, flow, frame, parquet, snapshot

from prep.duck import connect
from prep.errors import PrepError
from prep.lock import held
from prep.manifest import publish
from prep.split.dataset import columns_query
from prep.split.leaks import NOT_ASKED, check_for_leaks
from prep.split.members import Members
from prep.split.splits import make_splits
from prep.split.star import write_star
from prep.transform.plugin import checked_inputs

FILES = ("articles", "customers", "transactions_train")
STAGE_1, STAGE_2 = "create_parquet_dataset.json", "filtered_dataframe.json"
RESULT = "filtered_dataframe.parquet"
HOSTILE = "price=it's [a] *b? {c} \u00fc \"'; drop"


def record(path):
    """The record, without the checksum over it."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "checksum"}


def replace_lines(path, changes):
    """Put bytes in the place of lines, by line number; the header is line 1."""
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in changes.items():
        lines[number - 1] = line
    path.write_bytes(b"".join(lines))


# Bad rows

# Line of transactions_train.csv -> what stands there instead, and the column and reason to be given.
BAD_LINES = {
    2: (b"2018-09-20,short\n", "", "the line has 2 cells and the header 5"),
    5: (b"2018-13-20,a,0100000001,0.01,1\n", "t_dat", "'2018-13-20' is not a date like 2020-09-08"),
    9: (b'2018-09-20,"two\nlines",0100000001,cheap,1\n', "price", "'cheap' is not a number"),
    12: (b"2018-09-20,a,0100000001,0.01,\n", "sales_channel_id", "the cell is empty"),
    13: (b"2018-09-20,\xff,0100000001,0.01,1\n", "", "the line holds bytes that are no UTF-8 text"),
    41: (
        b"2018-09-20,a,'; drop table x; --,0.01,1\n",
        "article_id",
        '"\'; drop table x; --" is not an article_id of 10 digits',
    ),
}


@pytest.fixture
def with_bad_lines(data):
    replace_lines(data / "transactions_train.csv", {n: line for n, (line, *_) in BAD_LINES.items()})
    return data


def test_bad_rows_are_put_aside_with_their_line_column_and_reason(with_bad_lines, hand_made):
    result = create("--data-dir", with_bad_lines, "--max-bad-rows", len(BAD_LINES))
    assert result.code == 0, result.err
    with (with_bad_lines / "rejects.csv").open(encoding="utf-8", newline="") as file:
        rejects = list(csv.DictReader(file))
    # The bad row of line 9 takes two lines, so those behind it come one later.
    assert rejects == [
        {
            "file": "transactions_train.csv",
            "line": str(number + (number > 9)),
            "column": column,
            "reason": reason,
            "text": line.decode(errors="surrogateescape").rstrip("\n").encode(errors="backslashreplace").decode(),
        }
        for number, (line, column, reason) in BAD_LINES.items()
    ]
    good = parquet(hand_made.folder / "transactions_train")
    good = good.drop([number - 2 for number in BAD_LINES]).reset_index(drop=True)
    pd.testing.assert_frame_equal(parquet(with_bad_lines / "transactions_train"), good)


def test_every_row_read_is_kept_sampled_out_or_rejected(with_bad_lines):
    replace_lines(with_bad_lines / "articles.csv", {3: b"bad\n"})
    result = create(0.5, "--data-dir", with_bad_lines, "--max-bad-rows", 7)
    assert result.code == 0, result.err
    rows = record(with_bad_lines / STAGE_1)["rows"]
    assert rows["articles"] == {"read": 8, "kept": 7, "sampled_out": 0, "rejected": 1}
    assert rows["customers"] == {"read": 7, "kept": 7, "sampled_out": 0, "rejected": 0}
    lines = rows["transactions_train"]
    assert lines["kept"] == len(parquet(with_bad_lines / "transactions_train"))
    assert (lines["read"], lines["rejected"]) == (40, 6)
    assert lines["kept"] + lines["sampled_out"] == 34 and lines["sampled_out"] > 0
    printed = result.out.splitlines()[3].split()
    assert printed[1:5] == [str(lines[key]) for key in ("read", "kept", "sampled_out", "rejected")]
    with (with_bad_lines / "rejects.csv").open(newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == 7


@pytest.mark.parametrize("allowed", [0, 1, 5])
def test_more_bad_rows_than_allowed_and_nothing_is_written(with_bad_lines, allowed):
    before = snapshot(with_bad_lines)
    result = create("--data-dir", with_bad_lines, "--max-bad-rows", allowed)
    assert result.code == 1
    assert "--max-bad-rows" in result.err and "transactions_train.csv, line" in result.err
    assert snapshot(with_bad_lines) == before


def test_a_clean_run_takes_old_rejects_away(with_bad_lines):
    assert create("--data-dir", with_bad_lines, "--max-bad-rows", 6).code == 0
    copy_csv(FIXTURE, with_bad_lines)
    assert create("--data-dir", with_bad_lines).code == 0
    assert not (with_bad_lines / "rejects.csv").exists()


def test_a_row_too_long_for_python_and_a_bad_one(data):
    """A cell of 1 MB is text like any other, also where another line makes Python look at all."""
    path = data / "articles.csv"
    long = path.read_bytes().replace(b"Solid", b"S" * 1_000_000, 1)
    path.write_bytes(long)
    replace_lines(path, {8: b"bad\n"})
    result = create("--data-dir", data, "--max-bad-rows", 1)
    assert result.code == 0, result.err
    assert max(parquet(data / "articles").graphical_appearance_name.str.len()) == 1_000_000


# Records and the chain


@pytest.fixture
def made(hand_made, tmp_path):
    """The hand-written data set after all stages, in a folder of the test's own."""
    return shutil.copytree(hand_made.folder, tmp_path / "made")


@pytest.fixture(scope="session")
def others(tmp_path_factory):
    """The hand-written data set made in other ways, after stage 2, by what is other."""
    folders = {}
    for name, arguments, variables in [
        ("fraction", [0.5], {"min_interactions": 1}),
        ("seed", [1, "--seed", 7], {}),
        ("by", [1, "--by", "row"], {}),
        ("content", [1], {}),
        ("vars", [1], {"min_interactions": 4}),
    ]:
        folders[name] = folder = copy_csv(FIXTURE, tmp_path_factory.mktemp("others") / name)
        if name == "content":
            path = folder / "transactions_train.csv"
            path.write_bytes(path.read_bytes().replace(b"0.0", b"0.1", 1))
        assert create(*arguments, "--data-dir", folder).code == 0
        result = dbt("run", folder, variables)
        assert result.code == 0, result.out
    return folders


def sha256(path):
    return (
        subprocess.run(["sha256sum"], stdin=path.open("rb"), capture_output=True, check=True).stdout.split()[0].decode()
    )


def test_each_record_names_the_content_of_what_was_read_and_written(hand_made):
    folder = hand_made.folder

    def identities(*names):
        return [
            {"name": name, "bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)} for name in names
        ]

    first, second = record(folder / STAGE_1), record(folder / STAGE_2)
    assert {key: first[key] for key in ("fraction", "by", "seed")} == {"fraction": 1, "by": "customer", "seed": 0}
    assert first["inputs"] == identities(*(f"{file}.csv" for file in FILES))
    assert first["outputs"] == identities(*FILES)
    assert first["unknown"] == {"articles": 1, "customers": 1, "either": 2}
    assert second["vars"] == {"training_end_date": "2020-09-08", "min_interactions": 5}
    assert second["create_parquet_dataset"] == first
    assert second["outputs"] == identities(RESULT, "items.parquet")
    lineage = artifacts(hand_made.prepared).lineage
    assert lineage["dataset"] == second["outputs"]
    assert {key: lineage[key] for key in ("vars", "create_parquet_dataset")} == {
        key: second[key] for key in ("vars", "create_parquet_dataset")
    }


def test_a_purchase_of_unknown_article_and_customer_counts_once(data):
    replace_lines(data / "transactions_train.csv", {2: b"2018-09-20,nobody,0999999998,0.01,1\n"})
    assert create("--data-dir", data).code == 0
    assert record(data / STAGE_1)["unknown"] == {"articles": 2, "customers": 2, "either": 3}


def test_the_parquet_files_say_what_made_them(hand_made):
    folder = hand_made.folder
    for name, raw_file in zip(FILES, record(folder / STAGE_1)["inputs"], strict=True):
        inside = json.loads(pq.read_metadata(folder / name).metadata[b"lineage"])
        assert inside["inputs"] == [raw_file]
    inside = json.loads(pq.read_metadata(folder / RESULT).metadata[b"lineage"])
    assert inside == {key: record(folder / STAGE_2)[key] for key in ("vars", "create_parquet_dataset")}


OTHER_FILES = [(other, file) for other in ("fraction", "seed", "by") for file in (*FILES, STAGE_1)]


# Of other purchases, the articles and customers are the same files.
@pytest.mark.parametrize(("other", "file"), [*OTHER_FILES, ("content", FILES[2]), ("content", STAGE_1)])
def test_files_of_two_runs_of_stage_1_are_refused(made, others, other, file):
    (made / file).write_bytes((others[other] / file).read_bytes())
    with pytest.raises(PrepError) as refusal:
        checked_inputs(stages.SHOP, made)
    assert "is not the file that its record names" in str(refusal.value)
    assert "run `python create_parquet_dataset.py` again" in str(refusal.value)


def test_dbt_refuses_in_one_sentence(made, others):
    (made / "customers").write_bytes((others["fraction"] / "customers").read_bytes())
    before = snapshot(made)
    result = dbt("run", made)
    assert result.code != 0
    assert result.out.count("customers is not the file that its record names") == 1, result.out
    assert "Traceback" not in result.out
    assert snapshot(made) == before


def test_two_runs_cannot_write_into_one_folder(made):
    before = snapshot(made)
    with held(made):
        for result in (create("--data-dir", made), dbt("run", made)):
            assert result.code != 0
            text = result.out + result.err
            assert text.count(f"another run is writing into {made}: wait until it has ended") == 1, text
            assert "Traceback" not in text
    assert snapshot(made) == before
    assert create("--data-dir", made).code == 0


def test_one_process_may_run_dbt_again_and_again(made, others):
    """As a scheduler does: each command looks anew, and none keeps others out when it has ended."""
    script = (
        "from dbt.cli.main import dbtRunner; from sys import argv; from shutil import copy;"
        "ok = lambda: dbtRunner().invoke(['run', '--vars', '{data_dir: %s}' % argv[1]]).success;"
        "print(ok(), copy(argv[2], argv[1]) and ok(), ok());"
        "from pathlib import Path; from prep.lock import held; held(Path(argv[1])).__enter__()"
    )
    result = stages.run(PYTHON, "-c", script, made, others["fraction"] / "customers", cwd=ROOT / "dbt")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "True False False"


@pytest.mark.parametrize(
    ("files", "other", "sentence"),
    [
        *(
            ((RESULT,), other, f"is not the file that {STAGE_2} beside it tells of")
            for other in ("fraction", "seed", "by", "content", "vars")
        ),
        *(
            ((STAGE_2,), other, f"is not the file that {STAGE_2} beside it tells of")
            for other in ("fraction", "seed", "by", "content", "vars")
        ),
        (
            (RESULT, "items.parquet", STAGE_2),
            "fraction",
            "made from another transactions_train than the one beside it (fraction 0.5 instead of 1.0)",
        ),
        ((RESULT, "items.parquet", STAGE_2), "seed", "(seed 7 instead of 0)"),
        ((RESULT, "items.parquet", STAGE_2), "by", "(by row instead of customer)"),
        ((RESULT, "items.parquet", STAGE_2), "content", "(other content)"),
        ((STAGE_1,), "content", "(other content)"),
    ],
)
def test_the_flow_refuses_a_data_set_made_from_other_files(made, others, files, other, sentence):
    for file in files:
        (made / file).write_bytes((others[other] / file).read_bytes())
    with pytest.raises(PrepError) as refusal:
        stages.check(made / RESULT)
    assert sentence in str(refusal.value) and "dbt run" in str(refusal.value)


def test_the_flow_refuses_in_one_sentence(made, others):
    (made / RESULT).write_bytes((others["vars"] / RESULT).read_bytes())
    result = flow("--row_sampling", 0, cwd=made)
    assert result.code == 1
    text = result.out + result.err
    assert text.count(f"is not the file that {STAGE_2} beside it tells of") == 1, text
    assert "Traceback" not in text


def test_one_changed_byte_between_stage_2_and_3_is_refused(made):
    content = bytearray((made / RESULT).read_bytes())
    content[100] ^= 1
    (made / RESULT).write_bytes(content)
    with pytest.raises(PrepError, match=f"is not the file that {STAGE_2} beside it tells of"):
        stages.check(made / RESULT)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b"null", b"\xff", b'{"format": 2}', b'{"format": 1}'),
        *(b'{"format": 1, "outputs": 5}', b"[" * 100_000, b'{"format": ' + b"9" * 5000 + b"}"),
    ],
)
@pytest.mark.parametrize("name", [STAGE_1, STAGE_2])
def test_a_damaged_record_is_refused(made, name, content):
    (made / name).write_bytes(content)
    with pytest.raises(PrepError, match=f"{name}.* (is damaged|another version).* again"):
        stages.check(made / RESULT)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"outputs"', '"outputt"'),
        lambda text: text.replace('"seed": 0', '"seed": 8'),
    ],
)
def test_a_record_that_is_no_longer_the_one_written_is_refused(made, damage):
    (made / STAGE_1).write_text(damage((made / STAGE_1).read_text()))
    with pytest.raises(PrepError, match=f"{STAGE_1} is damaged: run `python create_parquet_dataset.py` again"):
        checked_inputs(stages.SHOP, made)


def test_files_without_records_are_said(made):
    """As those of another tool, or as all files before this project wrote records."""
    (made / STAGE_1).unlink()
    (made / STAGE_2).unlink()
    transformed = dbt("run", made)
    assert transformed.code == 0
    assert transformed.out.count(f"ATTENTION: {made} has no {STAGE_1}") == 1, transformed.out
    assert record(made / STAGE_2)["create_parquet_dataset"] is None
    (made / STAGE_2).unlink()
    result = flow("--row_sampling", 0, cwd=made)
    assert result.code == 0, result.out + result.err
    assert f"ATTENTION: nothing proves what made {RESULT} (no {STAGE_2} beside it with its content)" in result.out


# Fingerprints


@pytest.fixture(scope="session")
def table(hand_made):
    return pq.ParquetFile(hand_made.folder / RESULT).read().cast(stages.SCHEMA)


def test_equal_rows_have_equal_fingerprints_and_others_have_others(runs):
    """Whatever the folder and the run; another date moves rows from one split into another."""
    summaries = {
        name: metaflow.Run(f"DataPrepFlow/{run}").data.summary for name, run in runs.items() if name != "failed"
    }
    prints = {name: {label: split["fingerprint"] for label, split in of.items()} for name, of in summaries.items()}
    assert prints[""] == prints["again"]
    assert prints["parameter"]["train"] == prints[""]["train"]
    for label in ("valid", "test"):
        assert prints["parameter"][label] != prints[""][label]
    assert prints["content"]["train"] != prints[""]["train"]


def test_the_fingerprint_is_the_content_of_the_splits_file(made, tmp_path):
    """Of the same rows, whatever engine wrote them and in how many files; any changed cell changes it."""
    table = pq.ParquetFile(made / RESULT).read().replace_schema_metadata()
    one, parts, changed = (tmp_path / name for name in ("one.parquet", "parts", "changed.parquet"))
    pq.write_table(table, one, row_group_size=7, compression="none")
    parts.mkdir()
    for number, start in enumerate(range(0, len(table), 10)):
        pq.write_table(table.slice(start, 10), parts / f"part-{number:05}.parquet", use_dictionary=False)
    row = table.num_rows - 1
    price = table.column("price").to_pylist()
    price[row] += 1.0
    at = table.schema.get_field_index("price")
    pq.write_table(table.set_column(at, "price", pa.array(price)), changed)
    seen = []
    for path in (made / RESULT, one, parts, changed):
        prepared = flow("--row_sampling", 0, "--dataset", path, cwd=tmp_path)
        assert prepared.code == 0, prepared.out + prepared.err
        summary = artifacts(prepared).summary
        seen.append(tuple(split["fingerprint"] for split in summary.values()))
    assert seen[0] == seen[1] == seen[2]
    assert sum(a != b for a, b in zip(seen[0], seen[3], strict=True)) == 1


# Compare two runs


@pytest.fixture(scope="session")
def runs(hand_made, others, tmp_path_factory):
    """Run ids by what is other than in the run of the hand-written data set."""
    first = flow("--row_sampling", 0, cwd=hand_made.folder)
    made = {"": first, "again": hand_made.prepared}
    made["parameter"] = flow("--row_sampling", 0, "--validation_end_date", "2020-09-16", cwd=hand_made.folder)
    made["content"] = flow("--row_sampling", 0, cwd=others["content"])
    failed = flow("--row_sampling", 0, "--training_end_date", "2010-01-01", cwd=hand_made.folder)
    assert failed.code == 1
    made["failed"] = failed
    return {name: result.out.split("run id: ")[1].split()[0] for name, result in made.items()}


def compare(capsys, *ids):
    code = compare_runs.main([str(run_id) for run_id in ids])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def test_two_runs_of_the_same_files_are_identical(runs, capsys):
    assert compare(capsys, runs[""], runs["again"]) == (0, ["identical"], "")


def test_another_parameter_is_named_before_the_rows_that_it_moved(runs, capsys):
    code, lines, _ = compare(capsys, runs[""], runs["parameter"])
    assert code == 1
    assert lines[0] == "parameter validation_end_date: 2020-09-15 | 2020-09-16"
    assert all(line.startswith("rows ") for line in lines[1:])
    assert any(line.startswith("rows valid.fingerprint: ") for line in lines)
    assert not any("train" in line for line in lines)


def test_another_input_is_named_before_the_rows(runs, capsys):
    code, lines, _ = compare(capsys, runs[""], runs["content"])
    assert code == 1
    kinds = [line.split()[0] for line in lines]
    assert kinds == sorted(kinds) and set(kinds) == {"input", "rows"}
    assert any("transactions_train.csv.sha256" in line for line in lines)
    assert not any("by_lines" in line for line in lines)  # it follows from the files
    assert not any("articles.csv" in line for line in lines)


def test_a_run_that_failed_or_never_was_cannot_be_compared(runs, capsys):
    for other, word in ((runs["failed"], "did not end well"), ("17", "DataPrepFlow/17")):
        code, lines, said = compare(capsys, runs[""], other)
        assert (code, lines) == (2, [])
        assert said.startswith("compare_runs.py: error: ") and word in said


# Cold start


def test_what_train_has_never_seen_is_counted(tmp_path):
    synthetic.generate(tmp_path, 0.001, 0)
    assert create("--data-dir", tmp_path).code == 0
    assert dbt("run", tmp_path, {"min_interactions": 1}).code == 0
    # Few of the rows, so that train does not know everybody.
    prepared = flow("--row_sampling", 5, cwd=tmp_path)
    assert prepared.code == 0, prepared.out + prepared.err
    data = artifacts(prepared)
    tables = {label: frame(table) for label, table in data.label_to_dataset.items()}
    train = tables["train"]
    for label, table in tables.items():
        known = {
            "customers": table.customer_id.isin(train.customer_id),
            "articles": table.article_id.isin(train.article_id),
        }
        counts = {
            "rows": len(table),
            "units": table.quantity.sum(),
            "customers": table.customer_id.nunique(),
            "articles": table.article_id.nunique(),
            "first_day": table.t_dat.min().date(),
            "last_day": table.t_dat.max().date(),
        }
        if label != "train":
            for name, key in (("customers", "customer_id"), ("articles", "article_id")):
                counts[f"new_{name}"] = table[key][~known[name]].nunique()
                counts[f"rows_of_new_{name}"] = (~known[name]).sum()
                assert counts[f"new_{name}"] > 0  # else this test would show nothing
        assert {key: data.summary[label][key] for key in counts} == counts
        assert set(data.summary[label]) == {*counts, "fingerprint"}


# Leaks


DAYS = datetime.datetime(2020, 9, 8), datetime.datetime(2020, 9, 15)


def leaks(con, tables, folder, min_lines=5, item_columns=("article_id",)):
    """{rule: verdict} without those that passed."""
    splits = make_splits(*DAYS, folder)
    for one in splits:
        con.register("wide", pa.Table.from_pandas(tables[one.label], stages.SCHEMA, preserve_index=False))
        write_star(con, "from wide", one, stages.SHOP, lambda rows: None)
    verdict = check_for_leaks(Members(con, stages.SHOP, splits), min_lines, item_columns)
    assert len(verdict) == 6
    return {rule: found for rule, found in verdict.items() if found != "passed"}


def moved(tables, source, target, **cells):
    """A row of source in target too, with other cells."""
    row = tables[source].iloc[[0]].assign(**cells)
    return tables | {target: pd.concat([tables[target], row], ignore_index=True)}


@pytest.mark.parametrize(
    ("spoil", "rule", "found"),
    [
        (lambda t: moved(t, "train", "train", t_dat=DAYS[0]), "train ends before 2020-09-08", 1),
        (
            lambda t: moved(t, "test", "train", customer_id=t["train"].customer_id[0], t_dat=DAYS[1], price=9.0),
            "train ends before 2020-09-08",
            1,
        ),
        (
            lambda t: moved(t, "valid", "valid", t_dat=DAYS[0] - datetime.timedelta(microseconds=1)),
            "valid begins on 2020-09-08 and ends before 2020-09-15",
            1,
        ),
        (
            lambda t: moved(t, "valid", "valid", t_dat=DAYS[1], price=9.0),
            "valid begins on 2020-09-08 and ends before 2020-09-15",
            1,
        ),
        (lambda t: moved(t, "test", "test", t_dat=DAYS[0], price=9.0), "test begins on 2020-09-15", 1),
        (lambda t: moved(t, "valid", "valid", customer_id="nobody"), "every customer has at least 5 lines in train", 1),
        (lambda t: moved(t, "test", "test", customer_id="nobody"), "every customer has at least 5 lines in train", 1),
        (lambda t: t | {"train": t["train"].iloc[1:]}, "every customer has at least 5 lines in train", 1),
    ],
)
def test_each_rule_of_the_leak_check_sees_its_breach(spoil, rule, found, table, tmp_path):
    tables = split(table.to_pandas())
    assert leaks(duckdb.connect(), tables, tmp_path) == {}
    assert leaks(duckdb.connect(), spoil(tables), tmp_path) == {rule: f"broken by {found}"}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("train", "valid"),
        ("train", "test"),
        ("valid", "train"),
        ("valid", "test"),
        ("test", "train"),
        ("test", "valid"),
    ],
)
def test_a_line_in_two_splits_is_seen(source, target, table, tmp_path):
    found = leaks(duckdb.connect(), moved(split(table.to_pandas()), source, target), tmp_path)
    assert found["no purchase line is in two splits"] == "broken by 1"


def test_a_column_of_a_purchase_in_the_articles_is_seen(table, tmp_path):
    found = leaks(
        duckdb.connect(), split(table.to_pandas()), tmp_path, item_columns=("article_id", "t_dat", "customer_id")
    )
    assert found == {"item_id_2_meta holds no column of a purchase": "broken by customer_id, t_dat"}


def test_a_sample_of_rows_has_no_least_number_of_lines(table, tmp_path):
    tables = split(table.to_pandas())
    found = leaks(duckdb.connect(), tables | {"train": tables["train"].iloc[1:]}, tmp_path, 0)
    assert found == {"every customer has enough lines in train": NOT_ASKED}


def test_the_verdict_is_an_artifact(hand_made):
    verdict = artifacts(hand_made.prepared).leak_check
    assert len(verdict) == 6 and set(verdict.values()) == {"passed"}


def test_a_leak_fails_the_run(made):
    """The file was filtered with fewer lines than it claims, and its record fits it."""
    original = pq.ParquetFile(made / RESULT)
    pq.write_table(
        original.read()
        .slice(1)
        .replace_schema_metadata(
            {b"training_end_date": b"2020-09-08", b"lineage": original.metadata.metadata[b"lineage"]}
        ),
        made / RESULT,
    )
    lying = record(made / STAGE_2)
    lying["outputs"][0] = {"name": RESULT, "bytes": (made / RESULT).stat().st_size, "sha256": sha256(made / RESULT)}
    publish({made / RESULT: made / RESULT}, made / STAGE_2, lying)
    result = flow("--row_sampling", 0, cwd=made)
    assert result.code == 1
    text = result.out + result.err
    assert text.count("the split leaks: 'every customer has at least 5 lines in train'") == 1, text
    assert "Traceback" not in text


# Hostile names and values


def test_hostile_names_and_values_go_through_all_stages(tmp_path):
    """And no secret of the environment is printed on the way."""
    folder, secret = copy_csv(FIXTURE, tmp_path / HOSTILE), "sesame-street-17"
    customer, group = "'; drop table customers; --", "{{ 1 / 0 }} \"'"
    for file in FILES:
        table = pd.read_csv(folder / f"{file}.csv", dtype=str, keep_default_na=False)
        table = table.replace({"1" * 64: customer, "Garment Upper body": group})
        table.to_csv(folder / f"{file}.csv", index=False, lineterminator="\n")
    secrets = dict.fromkeys(["AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "SNOWFLAKE_PASSWORD"], secret)
    created = create_process("--data-dir", folder, **secrets)
    assert created.code == 0, created.err
    secrets["DBT_TARGET_PATH"] = secrets["DBT_LOG_PATH"] = str(tmp_path / ".dbt")
    secrets["METAFLOW_DATASTORE_SYSROOT_LOCAL"] = str(tmp_path / ".store")
    made = dbt("run", folder, **secrets)
    assert made.code == 0, made.out
    lines = filtered_dataframe(*(read_csv(folder / f"{file}.csv") for file in FILES))
    assert (lines.customer_id == customer).any() and (lines.product_group_name == group).any()
    pd.testing.assert_frame_equal(parquet(folder / RESULT), lines, check_exact=True)
    prepared = flow("--row_sampling", 0, "--dataset", folder / RESULT, cwd=tmp_path, **secrets)
    assert prepared.code == 0, prepared.out + prepared.err
    metaflow.metadata(f"local@{tmp_path}/.store")
    tables = artifacts(prepared).label_to_dataset
    common = Path(os.environ["METAFLOW_DATASTORE_SYSROOT_LOCAL"])
    (common / ".metaflow").mkdir(exist_ok=True)  # not there yet when this test runs alone
    metaflow.metadata(f"local@{common}")
    for label, table in split(lines).items():
        pd.testing.assert_frame_equal(frame(tables[label]), table, check_exact=True)
    left = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    left = [gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content for content in left]
    assert not any(secret.encode() in content for content in left)
    assert secret not in "".join(created[1:] + made[1:] + prepared[1:])
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {HOSTILE}


def test_a_folder_named_like_a_glob_is_not_one(tmp_path):
    """The neighbour that the pattern would match is not read."""
    for name in ("data1", "data?", "data[1]"):
        folder = copy_csv(FIXTURE, tmp_path / name)
        assert create(0.5 if name == "data1" else 1, "--data-dir", folder).code == 0
    for name in ("data?", "data[1]"):
        assert dbt("run", tmp_path / name, {"min_interactions": 1}).code == 0
        lines = filtered_dataframe(*(read_csv(FIXTURE / f"{file}.csv") for file in FILES), min_interactions=1)
        pd.testing.assert_frame_equal(parquet(tmp_path / name / RESULT), lines, check_exact=True)
        lineage, notices = stages.check(tmp_path / name / RESULT)
        assert lineage["outputs"] == lineage["dataset"] and notices == []
        con = connect(only=[tmp_path / name / RESULT])
        assert len(con.sql(columns_query(con, [tmp_path / name / RESULT], stages.SHOP.columns))) == len(lines)


@pytest.mark.parametrize("column", ['"', 'a"b', "'; drop table x; --", "{}", "{0}", "%s", "\u00fc", " ", "$1"])
def test_a_hostile_column_is_carried_along(data, column):
    path = data / "transactions_train.csv"
    texts = pd.read_csv(path, dtype=str, keep_default_na=False)
    texts[column] = [HOSTILE, "'", '"', "''; select 1; --", ""] * 8
    texts.to_csv(path, index=False, lineterminator="\n")
    result = create("--data-dir", data)
    assert result.code == 0, result.err
    assert list(parquet(data / "transactions_train")[column].fillna("")) == list(texts[column])


@pytest.mark.parametrize(
    "arguments", [("--training_end_date", "2020-09-08'; drop table x; --"), ("--sampling_seed", "0) union select 1")]
)
def test_hostile_parameters_of_the_flow_are_refused(hand_made, arguments):
    result = flow(*arguments, cwd=hand_made.folder)
    assert result.code != 0
    text = result.out + result.err
    assert "Traceback" not in text
    assert arguments[1] in text


@pytest.mark.parametrize(
    "dataset", ["*.parquet", "filtered_dataframe.parque?", "[a-z]*.parquet", "x') from range(3); --"]
)
def test_a_data_set_named_like_a_glob_is_not_one(hand_made, monkeypatch, dataset):
    monkeypatch.chdir(hand_made.folder)
    with pytest.raises(PrepError, match="is missing"):
        stages.check(dataset)
