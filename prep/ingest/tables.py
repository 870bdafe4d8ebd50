"""Stage 1: a shop's raw files become parquet files, all of them or none."""

import csv
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from prep import duck, lock, manifest
from prep.duck import identifier, scan
from prep.errors import PrepError, first_line
from prep.ingest.bad_rows import BadRows, Reject
from prep.ingest.csv_file import CsvFile
from prep.ingest.parquet_file import ParquetFile
from prep.manifest import Content
from prep.parquet import write_parquet
from prep.shop import RawTable, Shop

ENDINGS = (".csv", ".csv.gz", ".parquet")
DRAWN = "\N{INFORMATION SEPARATOR ONE}drawn"  # a column that no file has: is the row in the sample?
# Fewer purchases than this share with a known item, or user, and the files hardly belong together.
LEAST_KNOWN = 0.1
KEYS_AT_ONCE = 4_000_000  # a look-up of 3.4 million keys of 64 letters held 0.65 GB
# How DuckDB's errors begin for which the machine is to blame, not the file.
MACHINE = ("Out of Memory", "IO Error", "INTERRUPT")


class Report(NamedTuple):
    """What became of one file."""

    name: str
    rows: dict[str, int]  # as manifest.Rows
    bytes: int
    seconds: float


class Tables:
    """One run of stage 1 in the folder that it holds."""

    def __init__(
        self, con: duckdb.DuckDBPyConnection, shop: Shop, folder: Path, workspace: Path, made_with: dict[str, Any]
    ) -> None:
        self.con, self.shop, self.folder, self.workspace, self.made_with = con, shop, folder, workspace, made_with
        self.paths = {table.name: workspace / table.name for table in shop.tables}
        self.rejects: list[Reject] = []

    def write(self) -> tuple[list[Report], dict[str, int]]:
        """Read the raw files, check and write the tables, and publish all of them; returns what to tell."""
        found = {table.name: self.find(table) for table in self.shop.tables}
        states = {name: manifest.states_of([path]) for name, path in found.items()}  # before anything of them is read
        sources = {table.name: self.open(found[table.name], table) for table in self.shop.tables}
        reports: list[Report] = []
        inputs: list[Content] = []
        over = threading.Event()

        def go_on() -> None:
            if over.is_set():
                raise CancelledError

        with ThreadPoolExecutor(1) as beside:
            try:
                for table in self.shop.tables:
                    source, started = sources[table.name], time.monotonic()
                    print(f"reading {source.path} ({source.path.stat().st_size:,} bytes)", file=sys.stderr)
                    content = beside.submit(source.content, go_on)
                    try:
                        rows = self.write_table(table, source, content)
                        inputs.append(content.result())
                    finally:  # told instead of any error that the change led to
                        if manifest.states_of([source.path]) != states[table.name]:
                            raise PrepError(
                                f"{source.path} was changed while it was read: start again once it is whole."
                            )
                    if rows["kept"] == 0:
                        raise PrepError(
                            f"no purchase of the {rows['read']:,} in {source.path} is left at fraction"
                            f" {self.made_with['fraction']}: take a larger fraction or another --seed."
                        )
                    size = self.paths[table.name].stat().st_size
                    reports.append(Report(table.name, rows, size, time.monotonic() - started))
                    self.check_key(table, source.path)
            finally:
                over.set()  # neither a fault nor an interrupt waits for the hash
        record = self.made_with | {"inputs": inputs, "rows": {report.name: report.rows for report in reports}}
        record["unknown"] = self.count_unknown(record["rows"][self.shop.purchases.name]["kept"])
        record["outputs"] = [manifest.content_of(path) for path in self.paths.values()]
        self.publish(record)
        return reports, record["unknown"]

    def open(self, path: Path, table: RawTable) -> CsvFile | ParquetFile:
        return ParquetFile(self.con, path, table) if path.suffix == ".parquet" else CsvFile(path, table)

    def find(self, table: RawTable) -> Path:
        """The file of the table, whatever its ending."""
        found = [path for end in ENDINGS if (path := self.folder / (table.name + end)).is_file()]
        if not found:
            raise PrepError(
                f"{table.name}.csv (or .csv.gz, .parquet) is missing in {self.folder.resolve()}: put it there,"
                " or name its folder with --data-dir."
            )
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise PrepError(f"{self.folder} holds {names}, two files of one table: remove one of them.")
        return found[0]

    def drawn(self, table: RawTable) -> str | None:
        """SQL: is this row in the sample? None where all are.

        A stable hash, so 0.1 lies inside 0.25 for the same seed: md5 as hex text is below the fraction of the
        hash space; the engine's own hash and random generator change from version to version. By row, identical
        rows stay together: they are units of one purchase.
        """
        fraction, by, seed = (self.made_with[name] for name in ("fraction", "by", "seed"))
        if fraction == 1 or table.holds != "purchases":
            return None
        names = [table.user or ""] if by == "customer" else [column.name for column in table.columns]
        cells = [f"coalesce(cast({identifier(name)} as varchar), '')" for name in names]
        text = " || ':' || ".join([duck.literal(seed), *cells])
        return f"md5({text}) < '{int(fraction * 2**64):016x}'"

    def write_table(self, table: RawTable, source: CsvFile | ParquetFile, content: Future[Content]) -> dict[str, int]:
        """Write one raw table as parquet; returns its manifest.Rows. Every line of a CSV file is accounted for."""
        target, drawn = self.paths[table.name], self.drawn(table)
        if isinstance(source, ParquetFile):
            source.check(self.con)
            rows, kept = self.stream(source.columns(), source.scan(), drawn, target, content)
            return {"read": rows, "kept": kept, "sampled_out": rows - kept, "rejected": 0}

        def write(path: Path | None, lines: int | None, parallel: bool) -> tuple[int, int]:
            rows_of = source.scan(path, parallel)
            rows, kept = self.stream(source.columns(), source.checked(rows_of), drawn, target, content)
            source.check_every_line_is_a_row(self.con, rows_of, rows, lines)
            return rows, kept

        known = len(self.rejects)
        try:
            rows, kept = read_strictly(source, content, write, None, None)
        except duckdb.Error as error:
            blame(error, source.path)
            # The first writing ended at the fault, so a file without one never pays for this.
            bad = BadRows(self.con, source, self.workspace, self.rejects, self.made_with["max_bad_rows"])
            without, lines = bad.put_aside()
            if len(self.rejects) == known:
                raise PrepError(
                    f"{source.path} has a fault whose line cannot be told ({first_line(error)}): download it again."
                ) from error
            rows, kept = read_strictly(source, content, write, without, lines)
            without.unlink()
        rejected = len(self.rejects) - known
        if rows == 0:
            raise PrepError(f"{source.path} has a header and no good row: download it again.")
        return {"read": rows + rejected, "kept": kept, "sampled_out": rows - kept, "rejected": rejected}

    def stream(
        self, columns: str, rows_of: str, drawn: str | None, target: Path, content: Future[Content]
    ) -> tuple[int, int]:
        """Write the rows that are drawn; returns the numbers of rows read and written.

        Raises the PrepError of `content`, the raw file's, once all is read.
        """
        query = f"select {columns}{f', {drawn} as {identifier(DRAWN)}' if drawn else ''} from {rows_of}"
        schema = self.con.sql(query).limit(0).to_arrow_table().schema
        if drawn:
            schema = schema.remove(len(schema) - 1)
        rows = 0

        def kept() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in duck.batches(self.con, query):
                rows += batch.num_rows
                yield batch.drop_columns([DRAWN]).filter(batch.column(DRAWN)) if drawn else batch

        def marks() -> dict[str, str]:
            return manifest.stage_1_marks(self.made_with, content.result())

        written = write_parquet(target, schema, kept(), marks=marks)
        return rows, written

    def check_key(self, table: RawTable, path: Path) -> None:
        """An id that stands twice in its file would double purchases when stage 2 joins."""
        if table.key is None:
            return
        key = identifier(table.key)
        twice = self.con.sql(
            f"select {key}, count(*) from {scan(self.paths[table.name])} group by all having count(*) > 1"
            " order by all limit 1"
        ).fetchall()
        for value, count in twice:
            raise PrepError(f"{path}: {table.key} {value!r} stands {count} times in the file: it must be there once.")

    def count_unknown(self, kept: int) -> dict[str, int]:
        """The kept purchases whose item, user, or either, is not in its table, by the table's name."""
        purchases, joins, unknown = scan(self.paths[self.shop.purchases.name]), self.joins(), {}
        for table, column in joins:
            unknown[table.name] = kept - self.count_known(purchases, table, column)
            if table.unknown == "left_out" and unknown[table.name] > kept * (1 - LEAST_KNOWN):
                raise self.does_not_join(table, column, unknown[table.name], kept)
        either = sum(unknown.values())
        if len(unknown) == 2 and all(unknown.values()):  # a purchase may lack both
            (items, item), (users, user) = joins
            keys = f"select {identifier(items.key or '')} as {identifier(item)} from {scan(self.paths[items.name])}"
            either = kept - self.count_known(f"{purchases} semi join ({keys}) using ({identifier(item)})", users, user)
        return unknown | {"either": either}

    def count_known(self, rows_of: str, table: RawTable, column: str) -> int:
        """The rows whose `column` is a key of the table.

        All keys at once would not fit into memory at 318 million purchases, and DuckDB then wrote 40 GB and gave up.
        """
        keys, key, ours = scan(self.paths[table.name]), identifier(table.key or ""), identifier(column)
        parts = pq.read_metadata(self.paths[table.name]).num_rows // KEYS_AT_ONCE + 1
        known = 0
        for part in range(parts):
            some = f"select {key} as {ours} from {keys} where hash({key}) % {parts} = {part}"
            ((rows,),) = self.con.sql(f"select count(*) from {rows_of} semi join ({some}) using ({ours})").fetchall()
            known += rows
        return known

    def joins(self) -> list[tuple[RawTable, str]]:
        """The tables of items and users, and the column of the purchases that says which."""
        purchases, items, users = self.shop.purchases, self.shop.table("items"), self.shop.table("users")
        return [
            (table, column) for table, column in ((items, purchases.item), (users, purchases.user)) if table and column
        ]

    def does_not_join(self, table: RawTable, column: str, unknown: int, kept: int) -> PrepError:
        """Of files whose ids are written in two ways stage 2 would join nearly nothing."""
        purchases = self.shop.purchases.name
        of_purchases, of_file = (
            [value for (value,) in self.con.sql(
                f"select distinct {identifier(name)} from {scan(self.paths[file])} order by all limit 2"
            ).fetchall()]
            for name, file in ((column, purchases), (table.key or "", table.name))
        )  # fmt: skip
        return PrepError(
            f"{unknown:,} of {kept:,} purchases have a {column} that is not in the {table.name} file, so the files do"
            f" not belong together or write their ids in two ways (at least {LEAST_KNOWN:.0%} must be known):"
            f" {purchases} has {of_purchases}, {table.name} has {of_file}."
        )

    def publish(self, record: dict[str, Any]) -> None:
        finished = {path: self.folder / name for name, path in self.paths.items()}
        rejects = self.folder / manifest.REJECTS
        if self.rejects:
            finished[self.workspace / rejects.name] = rejects
            # Bytes that are no UTF-8 are shown as escapes.
            with (self.workspace / rejects.name).open(
                "w", encoding="utf-8", errors="backslashreplace", newline=""
            ) as file:
                csv.writer(file).writerows([Reject._fields, *self.rejects])
        manifest.publish(finished, self.folder / manifest.STAGE_1, record)
        if not self.rejects:
            rejects.unlink(missing_ok=True)  # of an earlier run


def read_strictly(
    source: CsvFile,
    content: Future[Content],
    write: Callable[[Path | None, int | None, bool], tuple[int, int]],
    path: Path | None,
    lines: int | None,
) -> tuple[int, int]:
    """write(), and where DuckDB's threads stumble over line breaks in quotes, with one of them."""
    try:
        return write(path, lines, True)
    except duckdb.Error as error:
        content.result()  # a file that is cut off is told as that
        blame(error, source.path)
        if not source.quoted:
            raise
        return write(path, lines, False)


def blame(error: duckdb.Error, path: Path) -> None:
    """Raise what is not to be mended by another look at the lines."""
    if "not a GZIP stream" in str(error):  # zeros behind the end, which Python's gzip passes over
        raise PrepError(f"{path} holds bytes after its gzip data: decompress it and compress it again.") from error
    if str(error).startswith(MACHINE):
        raise error


def write_tables(shop: Shop, data_dir: Path, made_with: dict[str, Any], limit: str | None) -> None:
    """Write the shop's tables into `data_dir` and print the rows read and kept of each.

    made_with: {"fraction": above 0 and up to 1, "by": "customer" or "row", "seed", "max_bad_rows": whole numbers};
    limit: DuckDB's memory, such as '1GB'. Raises PrepError; the previous output then stays as it was.
    """
    if not data_dir.is_dir():
        raise PrepError(f"the folder {data_dir.resolve()} is missing: name the one of the raw files with --data-dir.")
    limit = duck.memory_limit(limit)
    try:
        with lock.held(data_dir) as workspace:
            names = [table.name for table in shop.tables]
            manifest.check_targets(data_dir / name for name in (*names, manifest.REJECTS, manifest.STAGE_1))
            con = duck.connect(limit, spill_to=workspace / "spill")
            try:
                reports, unknown = Tables(con, shop, data_dir, workspace, made_with).write()
            finally:
                con.close()
    except duckdb.Error as error:
        cure = ": set MEMORY_LIMIT to more, such as 4GB" if isinstance(error, duckdb.OutOfMemoryException) else ""
        raise PrepError(f"DuckDB gave up in {data_dir} ({first_line(error)}){cure}.") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise PrepError(f"{error.filename or data_dir} could not be read or written ({reason}).") from error
    print_report(shop, reports, unknown)


def print_report(shop: Shop, reports: list[Report], unknown: dict[str, int]) -> None:
    print("file                  rows read   rows kept  sampled out  rejected          bytes  seconds")
    for name, rows, size, seconds in reports:
        read, kept, sampled_out, rejected = rows.values()
        print(f"{name:<19}{read:>12,}{kept:>12,}{sampled_out:>13,}{rejected:>10,}{size:>15,}{seconds:>9.1f}")
    purchases = shop.purchases.name
    whole = " and ".join(table.name for table in shop.tables if table.name != purchases)
    if whole and any(report.rows["sampled_out"] for report in reports):
        print(f"Only {purchases} is sampled: {whole} keep all their rows.")
    for table in shop.tables:
        if unknown.get(table.name):
            fate = "dbt's join leaves them out" if table.unknown == "left_out" else "they stay, without its columns"
            print(
                f"{unknown[table.name]:,} of the kept purchases are of {table.name} that are not in the {table.name}"
                f" file: {fate}."
            )
