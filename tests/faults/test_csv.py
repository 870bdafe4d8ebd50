"""One dialect of CSV: a valid file is read whatever its size, and what is refused names its line."""

import bz2
import csv
import gzip
import lzma
import random
import zipfile

import pandas as pd
import pyarrow.parquet as pq
import pytest
import synthetic
from conftest import FIXTURE, copy_csv
from stages import create, parquet, run, snapshot

from prep.ingest.csv_file import READ_BUFFER

pytestmark = pytest.mark.faults

NAME = "transactions_train"


@pytest.fixture
def folder(tmp_path):
    return copy_csv(FIXTURE, tmp_path / "data")


def refused(folder, *words, arguments=()):
    before = snapshot(folder)
    result = create("--data-dir", folder, *arguments)
    text = result.out + result.err
    assert result.code == 1 and "Traceback" not in text, text
    for word in words:
        assert word in text, text
    assert snapshot(folder) == before
    return text


def with_lines(folder, change, name=NAME):
    path = folder / f"{name}.csv"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(change(lines)))


@pytest.mark.parametrize("compressed", [False, True], ids=["csv", "csv.gz"])
def test_a_large_valid_file_with_line_breaks_in_quotes_is_read(tmp_path, compressed):
    """More than one of DuckDB's buffers: its parallel reader refuses such a file."""
    synthetic.generate(tmp_path, 0.01, 0)
    path = tmp_path / f"{NAME}.csv"
    rng = random.Random(0)
    reviews = ["", "nice", "too long,\nbut nice", 'a "fine"\n\nthing', "line\n" * 40]
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    texts = [rng.choice(reviews) for _ in rows]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*rows[0], "review"])
        writer.writerows([*row, text] for row, text in zip(rows[1:], texts, strict=False))
    assert path.stat().st_size > 1.5 * READ_BUFFER / 1.6
    if compressed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()
    (tmp_path / synthetic.MARKER).unlink()
    result = create("--data-dir", tmp_path)
    assert result.code == 0, result.err
    table = pq.ParquetFile(tmp_path / NAME).read()
    assert table["review"].fill_null("").to_pylist() == texts[: len(rows) - 1]
    assert table["customer_id"].to_pylist() == [row[rows[0].index("customer_id")] for row in rows[1:]]
    # And a bad row behind all these line breaks has its own line.
    if not compressed:
        content = path.read_bytes()
        at = content.rindex(b"\n2020-")
        number = content[: at + 1].count(b"\n") + 1
        path.write_bytes(content[: at + 1] + b"2020-99" + content[at + 8 :])
        refused(tmp_path, f"{NAME}.csv, line {number}, column t_dat", "is not a date")


def test_a_blank_before_a_quote_is_shown_with_its_line(folder):
    with_lines(folder, lambda lines: [*lines[:3], b'2018-09-20, "Slim" fit,0100000001,0.01,1', *lines[3:]])
    refused(folder, f"{NAME}.csv, line 4: a quote does not begin or end its cell")


def test_a_comma_too_many_at_every_end_blames_no_other_line(folder):
    def change(lines):
        lines[20] = lines[20].replace(b"2", b"x", 1)
        return [lines[0], *(line + b"," for line in lines[1:-1]), b""]

    with_lines(folder, change)
    refused(folder, f"{NAME}.csv, line 21, column t_dat")
    copy_csv(FIXTURE, folder)
    with_lines(folder, lambda lines: [lines[0], *(line + b"," for line in lines[1:-1]), b""])
    assert create("--data-dir", folder).code == 0  # an empty cell behind the last one is no cell


def test_a_quote_inside_a_cell_opens_nothing(folder):
    """5" is a text; the bad line far behind it has its own number."""
    with_lines(folder, lambda lines: [line.replace(b"1" * 64, b'1"' + b"1" * 62) for line in lines])
    with_lines(folder, lambda lines: [line.replace(b"1" * 64, b'1"' + b"1" * 62) for line in lines], "customers")
    result = create("--data-dir", folder)
    assert result.code == 0, result.err
    assert '1"' + "1" * 62 in set(parquet(folder / NAME)["customer_id"])
    with_lines(folder, lambda lines: [*lines[:30], b"2018-09-20,a,short", *lines[30:]])
    refused(folder, f"{NAME}.csv, line 31: the line has 3 cells and the header 5")
    result = create("--data-dir", folder, "--max-bad-rows", 1)
    assert result.code == 0, result.err
    assert len(parquet(folder / NAME)) == 40


@pytest.mark.parametrize("end", [b'2018-09-20,"never closed,0100000001,0.01,1\n', b'2018-09-20,a,0100000001,0.01,"1\n'])
def test_a_quote_that_is_never_closed(folder, end):
    path = folder / f"{NAME}.csv"
    path.write_bytes(path.read_bytes() + end)
    refused(folder, f"{NAME}.csv, line 42: a quote is opened and never closed")
    assert create("--data-dir", folder, "--max-bad-rows", 1).code == 0
    assert len(parquet(folder / NAME)) == 40


def test_an_empty_line_is_a_bad_line(folder):
    with_lines(folder, lambda lines: [*lines[:5], b"", *lines[5:]])
    refused(folder, f"{NAME}.csv, line 6: the line is empty")
    with_lines(folder, lambda lines: [*lines[:10], b'2018-09-20,"a",0100000001,0.01,1', *lines[10:]])
    refused(folder, f"{NAME}.csv, line 6: the line is empty")


def test_line_numbers_count_lines_also_behind_line_breaks_in_cells(folder):
    bad = b'2018-09-20,"two\nlines",0100000001,cheap,1'
    with_lines(
        folder, lambda lines: [*lines[:3], b'2018-09-20,"a\nb\nc",0100000001,0.01,1', *lines[3:7], bad, *lines[7:]]
    )
    refused(folder, f"{NAME}.csv, line 11, column price: 'cheap' is not a number")
    assert create("--data-dir", folder, "--max-bad-rows", 1).code == 0
    (reject,) = pd.read_csv(folder / "rejects.csv").to_dict("records")
    assert (reject["line"], reject["column"], reject["text"]) == (11, "price", bad.decode())


def test_a_line_of_very_many_cells_and_a_file_of_nothing_but_bad_lines(tmp_path):
    """DuckDB's own list of rejects would keep such a line once for each cell: 22 GB. In a process that may not."""
    folder = copy_csv(FIXTURE, tmp_path / "data")
    many = b"2018-09-20" + b",1" * 180_000 + b"\n"
    path = folder / f"{NAME}.csv"
    good = path.read_bytes()
    limited = 'ulimit -v 6000000; exec "$0" "$@"'
    for content in (good + many + many, good + b"bad\n" * 800_000):
        path.write_bytes(content)
        result = run("bash", "-c", limited, *stages_command(folder))
        assert result.code == 1, result.err
        assert f"{NAME}.csv, line 42: the line has" in result.err, result.err[-500:]


def stages_command(folder):
    from stages import PYTHON, ROOT

    return [PYTHON, ROOT / "create_parquet_dataset.py", "--data-dir", folder]


def test_many_bad_lines_are_all_put_aside(tmp_path):
    synthetic.generate(tmp_path, 0.001, 0)
    path = tmp_path / f"{NAME}.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    rng = random.Random(1)
    bad = sorted(rng.sample(range(1, len(lines)), 300))
    for at in bad:
        lines[at] = rng.choice(
            [b"x\n", b"2020-99-99" + lines[at][10:], lines[at][:-1] + b",more\n", b'"\n', b"\xff" + lines[at]]
        )
    path.write_bytes(b"".join(lines))
    kept = len(lines) - 1 - len(bad)
    result = create("--data-dir", tmp_path, "--max-bad-rows", 2000)
    assert result.code == 0, result.err
    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        rejects = list(csv.DictReader(file))
    # A line of one quote alone opens a cell that the next such line closes: what is between is in the text.
    covered = sum(reject["text"].count("\n") + 1 for reject in rejects)
    assert set(bad) <= {int(reject["line"]) - 1 + more for reject in rejects
                        for more in range(reject["text"].count("\n") + 1)}  # fmt: skip
    assert len(parquet(tmp_path / NAME)) == len(lines) - 1 - covered <= kept


# Files that are not what their name says


def zipped(content, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("articles.csv", content)


KINDS = {
    "a zip archive": lambda content, path: zipped(content, path),
    "compressed with gzip": lambda content, path: path.write_bytes(gzip.compress(content)),
    "compressed with bzip2": lambda content, path: path.write_bytes(bz2.compress(content)),
    "compressed with xz": lambda content, path: path.write_bytes(lzma.compress(content)),
    "a parquet file": lambda content, path: pd.DataFrame({"a": [1]}).to_parquet(path),
    "a web page": lambda content, path: path.write_bytes(b"\n <!DOCTYPE html><html>sign in</html>\n"),
    "text in UTF-16": lambda content, path: path.write_bytes(content.decode().encode("utf-16")),
    "a Python pickle": lambda content, path: pd.DataFrame({"a": [1]}).to_pickle(path),
    "a PDF document": lambda content, path: path.write_bytes(b"%PDF-1.7\n" + content),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["", ".gz"])
def test_a_file_that_is_not_what_its_name_says(folder, kind, inside):
    path = folder / "articles.csv"
    content = path.read_bytes()
    KINDS[kind](content, path)
    if inside:
        if kind == "compressed with gzip":
            path.write_bytes(gzip.compress(path.read_bytes()))
        else:
            path.write_bytes(gzip.compress(path.read_bytes()))
        path.rename(folder / "articles.csv.gz")
    refused(folder, f"articles.csv{inside} is {kind}", ": ")


@pytest.mark.parametrize("more", [b"\0" * 100, b"garbage", b"\x1f\x8b", b"\n"], ids=repr)
def test_bytes_after_the_gz_stream(folder, more):
    path = folder / "articles.csv"
    (folder / "articles.csv.gz").write_bytes(gzip.compress(path.read_bytes()) + more)
    path.unlink()
    text = refused(folder, "articles.csv.gz")
    assert "download it again" in text or "compress it again" in text


def test_two_gz_streams_after_each_other_are_one_text(folder):
    path = folder / "articles.csv"
    content = path.read_bytes()
    at = content.index(b"\n") + 1
    (folder / "articles.csv.gz").write_bytes(gzip.compress(content[:at]) + gzip.compress(content[at:]))
    path.unlink()
    result = create("--data-dir", folder)
    assert result.code == 0, result.err
    assert len(parquet(folder / "articles")) == content.count(b"\n") - 1
