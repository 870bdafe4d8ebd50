"""What a stage records of its files: their content, and how they were made. Never a file's time or folder.

The record lies beside the files as JSON, and goes along in their parquet metadata. What is read here was
perhaps written by anybody, so it is parsed into typed values before anyone sees it.
"""

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prep.errors import PrepError
from prep.lock import uninterrupted

FORMAT = 1  # of the records; a change that old readers would misread makes it 2
STAGE_1 = "create_parquet_dataset.json"
STAGE_2 = "filtered_dataframe.json"
DATASET = "filtered_dataframe.parquet"  # what stage 2 makes and stage 3 reads
ITEMS = "items.parquet"  # beside it, what is known of the items
REJECTS = "rejects.csv"
MOST_LINES = 20  # groups of customers are counted up to here
BLOCK = 1 << 20

Natural = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\x00-\x1f]+$")]
Content = dict[str, str | int]  # {name, bytes, sha256}


class Typed(BaseModel):
    """Known keys and typed values, nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(Typed):
    """A file by its content."""

    name: Name
    bytes: Natural
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Rows(Typed):
    """Of a raw table; read = kept + sampled_out + rejected."""

    read: Natural
    kept: Natural
    sampled_out: Natural
    rejected: Natural


class Stage1(Typed):
    """The record create_parquet_dataset.json."""

    format: Literal[1]
    fraction: Annotated[float, Field(gt=0, le=1)]
    by: Literal["customer", "row"]
    seed: Annotated[int, Field(ge=0, lt=10**40)]
    max_bad_rows: Natural
    inputs: list[File]
    rows: dict[Name, Rows]
    # Kept purchases whose item, user, or either, is not in its table, by the name of the table.
    unknown: dict[Name, Natural]
    outputs: Annotated[list[File], Field(min_length=1)]


class Vars(Typed):
    """The vars of dbt that decide who is in."""

    training_end_date: datetime.date
    min_interactions: Annotated[int, Field(ge=1, lt=2**31)]


class Group(Typed):
    """Customers with so many purchase lines before training_end_date (20: or more), and all their rows."""

    lines: Annotated[int, Field(ge=0, le=MOST_LINES)]
    customers: Natural
    rows: Natural


class Day(Typed):
    """Purchase lines of one day, and how many customers they are of."""

    day: datetime.date
    customers: Natural
    rows: Natural


class LeftOut(Typed):
    """Who bought from training_end_date on, and is left out for too few purchase lines before it."""

    customers: Natural
    rows: Natural
    by_day: list[Day]


class Inside(Typed):
    """What the files of stage 2 carry inside."""

    vars: Vars
    create_parquet_dataset: Stage1 | None


class Stage2(Inside):
    """The record filtered_dataframe.json."""

    format: Literal[1]
    customers_by_lines: Annotated[list[Group], Field(max_length=MOST_LINES + 1)]
    left_out: LeftOut | None = None
    outputs: Annotated[list[File], Field(min_length=1)]


def parse(model: type[Typed], text: str, where: str, mend: str) -> dict[str, Any]:
    """The JSON text as a dict of what `model` allows; the error names `where`, the key, what is wrong, and `mend`."""
    try:
        return model.model_validate_json(text).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise PrepError(
            f"{where}: {key[:80]!r} is not as this project writes it ({first['msg'][:120]}): {mend}."
        ) from None


def content_of(path: Path, each_block: Callable[[bytearray], None] | None = None) -> Content:
    """{name, bytes, sha256 (hex)} of the file's content; `each_block` is given every block as it is read."""
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(BLOCK)  # one for all blocks: a new one each time costs as much as the hash
    with path.open("rb", buffering=0) as file:
        while length := file.readinto(buffer):
            block = buffer[:length] if length < BLOCK else buffer
            digest.update(block)
            size += length
            if each_block is not None:
                each_block(block)
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()}


def states_of(paths: Iterable[Path]) -> list[tuple[int, int, int]]:
    """What changes when a file is replaced or written to: a run must read one and the same."""
    return [(state.st_ino, state.st_size, state.st_mtime_ns) for state in map(os.stat, paths)]


def check_content(path: Path, recorded: Content, mend: str) -> None:
    """Refuse a file whose content is not the recorded one: damaged, cut, or of another run."""
    if not path.exists():
        raise PrepError(f"{path} is missing: run {mend}.")
    if content_of(path) != recorded:
        raise PrepError(f"{path} is not the file that its record names (damaged, or of another run): run {mend} again.")


def checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def check_targets(paths: Iterable[Path]) -> None:
    """Refuse before any work is done: a folder in the place of a file would stop a publication half way."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            raise PrepError(
                f"{path.resolve()} is a folder, where a file of that name is to be written: move or delete it first."
            )


def publish(finished: dict[Path, Path], path: Path, record: dict[str, Any]) -> None:
    """Give finished files their names, {path in the workspace: path}, and write the record of them as JSON.

    The record is on the disk before the first name changes, so a full disk leaves all as it was.
    """
    record = {"format": FORMAT, **record}
    temporary = next(iter(finished)).parent / path.name
    text = json.dumps(record | {"checksum": checksum(record)}, indent=2) + "\n"
    temporary.write_text(text, encoding="utf-8")
    with uninterrupted():
        for source, target in finished.items():
            os.replace(source, target)
        os.replace(temporary, path)


def read_record(path: Path, model: type[Typed], make: str) -> dict[str, Any] | None:
    """The record as a dict, None when there is none. `make` is the command that writes it anew."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise PrepError(f"{path} is damaged: run {make} again.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise PrepError(f"{path} was written by another version of this project: run {make} again.")
    if record.pop("checksum", None) != checksum(record):
        raise PrepError(f"{path} is damaged: run {make} again.")
    return parse(model, json.dumps(record), str(path), f"run {make} again")


def stage_1_marks(made_with: dict[str, Any], raw_file: Content) -> dict[str, str]:
    """The parquet metadata of a file of stage 1; it is made from one raw file."""
    made_by = {"format": FORMAT, "made_by": STAGE_1.removesuffix(".json")}
    marks = {key: str(made_with[key]) for key in ("fraction", "by", "seed")}
    return marks | {"lineage": json.dumps(made_by | made_with | {"inputs": [raw_file]})}


def stage_2_marks(vars: dict[str, Any], stage_1: dict[str, Any] | None) -> dict[str, str]:
    """The parquet metadata of stage 2's files; read_marks() reads it again."""
    marks = {key: str(value) for key, value in vars.items()}
    marks |= {key: str(stage_1[key]) for key in ("fraction", "by", "seed") if stage_1}
    inside = {"vars": vars, "create_parquet_dataset": stage_1}
    return marks | {"lineage": json.dumps(inside, sort_keys=True)}


def read_marks(file: Path, make: str) -> tuple[datetime.date | None, dict[str, Any]]:
    """What a parquet file says of its own making: (day of its filter, lineage), None and {} where nothing is.

    `make` is the command that makes it anew.
    """
    marks = pq.read_metadata(file).metadata or {}
    texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in marks.items()}
    mend = f"make the file again with {make}, or save it without that metadata"
    day, lineage = None, {}
    if "training_end_date" in texts:
        quoted = json.dumps({"training_end_date": texts["training_end_date"], "min_interactions": 1})
        text = parse(Vars, quoted, f"the metadata of {file}", mend)["training_end_date"]
        day = datetime.date.fromisoformat(text)
    if "lineage" in texts:
        lineage = parse(Inside, texts["lineage"], f"the metadata of {file}, lineage", mend)
        day = max(day or datetime.date.min, datetime.date.fromisoformat(lineage["vars"]["training_end_date"]))
    return day, lineage
