"""Where a file comes from: the content of the files that made it, and how. Never a file's time or folder.

What is read here was perhaps written by anybody, so it is parsed into typed values before anyone sees it.
"""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FORMAT = 1  # of the records; a change that old readers would misread makes it 2
STAGE_1 = "create_parquet_dataset.json"
STAGE_2 = "filtered_dataframe.json"
WORKSPACE = ".unfinished.tmp"
BLOCK = 1 << 20


class LineageError(Exception):
    """Files that do not belong together, in one sentence that names the command that mends it."""


Natural = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^/\x00-\x1f]+$")]


class Typed(BaseModel):
    """Known keys and typed values, nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(Typed):
    """A file by its content."""

    name: Name
    bytes: Natural
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Rows(Typed):
    """Of a CSV file; read = kept + sampled_out + rejected."""

    read: Natural
    kept: Natural
    sampled_out: Natural
    rejected: Natural


class RowsOfFiles(Typed):
    articles: Rows
    customers: Rows
    transactions_train: Rows


class Unknown(Typed):
    """Kept purchases whose article, customer, or either, is not in its file."""

    articles: Natural
    customers: Natural
    either: Natural


class Stage1(Typed):
    """The record create_parquet_dataset.json."""

    format: Literal[1]
    fraction: Annotated[float, Field(gt=0, le=1)]
    by: Literal["customer", "row"]
    seed: Annotated[int, Field(ge=0, lt=10**40)]
    max_bad_rows: Natural
    inputs: Annotated[list[File], Field(max_length=3)]
    rows: RowsOfFiles
    unknown: Unknown
    outputs: Annotated[list[File], Field(min_length=3, max_length=3)]


class Vars(Typed):
    """The vars of dbt that decide who is in."""

    training_end_date: datetime.date
    min_interactions: Annotated[int, Field(ge=1, lt=2**31)]


class Group(Typed):
    """Customers with so many purchase lines before training_end_date (20: or more), and all their rows."""

    lines: Annotated[int, Field(ge=0, le=20)]
    customers: Natural
    rows: Natural


class Inside(Typed):
    """What filtered_dataframe.parquet carries inside."""

    vars: Vars
    create_parquet_dataset: Stage1 | None


class Stage2(Inside):
    """The record filtered_dataframe.json."""

    format: Literal[1]
    customers_by_lines: Annotated[list[Group], Field(max_length=21)]
    outputs: Annotated[list[File], Field(min_length=1, max_length=1)]


def parse(model: type[Typed], text: str, where: str) -> dict[str, Any]:
    """The JSON text as a dict of what `model` allows; LineageError names `where`, the key and what is wrong."""
    try:
        return model.model_validate_json(text).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise LineageError(f"{where}: {key[:80]!r} is not as this project writes it ({first['msg'][:120]})") from None


def file_identity(path: Path | str, each_block: Callable[[bytearray], None] | None = None) -> dict[str, str | int]:
    """{name, bytes, sha256 (hex)} of the file's content; `each_block` is given every block as it is read."""
    path = Path(path)
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


def checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


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


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C is not heard for the moment that this takes: between two renames it would leave files of two runs."""
    if threading.current_thread() is not threading.main_thread():  # only there Python takes signals
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def check_targets(paths: Iterable[Path]) -> None:
    """Refuse before any work is done: a folder in the place of a file would stop a publication half way."""
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            raise LineageError(
                f"{path.resolve()} is a folder, where a file of that name is to be written: move or delete it first."
            )


def new_workspace(folder: Path) -> Path:
    """A new and empty folder inside `folder`, which the caller holds, for files that are not finished.

    What a killed run has left there goes; a link that somebody has put there is removed, not followed.
    """
    path = folder / WORKSPACE
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)
    return path


def remove_workspace(folder: Path) -> None:
    """Delete the workspace, as far as the folder lets it."""
    shutil.rmtree(folder / WORKSPACE, ignore_errors=True)


def read_record(path: Path, model: type[Typed], mend: str) -> dict[str, Any] | None:
    """The record as a dict, None when there is none. `mend` is the command that writes it anew."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise LineageError(f"{path} is damaged: run {mend} again.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise LineageError(f"{path} was written by another version of this project: run {mend} again.")
    if record.pop("checksum", None) != checksum(record):
        raise LineageError(f"{path} is damaged: run {mend} again.")
    try:
        return parse(model, json.dumps(record), str(path))
    except LineageError as error:
        raise LineageError(f"{error}: run {mend} again.") from None


def check_identity(path: Path, recorded: dict[str, str | int], mend: str) -> None:
    """Refuse a file whose content is not the recorded one: damaged, cut, or of another run."""
    if not path.exists():
        raise LineageError(f"{path} is missing: run {mend}.")
    if file_identity(path) != recorded:
        raise LineageError(
            f"{path} is not the file that its record names (damaged, or of another run): run {mend} again."
        )


def hold(folder: Path) -> int:
    """Be the one run that writes into the folder, until this process ends or the result is closed."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise LineageError(f"the folder {folder} cannot be opened ({error.strerror}).") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise LineageError(f"another run is writing into {folder}: wait until it has ended, then try again.") from None
    return handle
