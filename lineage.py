"""Where a file comes from: the content of the files that made it, and how. Never a file's time or folder."""

import contextlib
import fcntl
import hashlib
import json
import os
from pathlib import Path

FORMAT = 1  # of the records; a change that old readers would misread makes it 2
STAGE_1 = "create_parquet_dataset.json"
STAGE_2 = "filtered_dataframe.json"
BLOCK = 1 << 20


class LineageError(Exception):
    """Files that do not belong together, in one sentence that names the command that mends it."""


def file_identity(path, each_block=None):
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


def checksum(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def publish(finished, path, record):
    """Give finished files their names, {temporary path: path}, and write the record of them as JSON.

    The record is on the disk before the first name changes, so a full disk leaves all as it was.
    """
    record = {"format": FORMAT, **record}
    temporary = Path(f"{path}.tmp")
    try:
        text = json.dumps(record | {"checksum": checksum(record)}, indent=2) + "\n"
        temporary.write_text(text, encoding="utf-8")
        for source, target in finished.items():
            os.replace(source, target)
        os.replace(temporary, path)
    finally:
        discard(temporary)


def discard(*paths):
    """Delete what a run that failed left, as far as the folder lets it."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)


def read_record(path, mend):
    """The record as a dict, None when there is none. `mend` is the command that writes it anew."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise LineageError(f"{path} is damaged: run {mend} again.") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise LineageError(f"{path} was written by another version of this project: run {mend} again.")
    if record.pop("checksum", None) != checksum(record):
        raise LineageError(f"{path} is damaged: run {mend} again.")
    return record


def check_identity(path, recorded, mend):
    """Refuse a file whose content is not the recorded one: damaged, cut, or of another run."""
    path = Path(path)
    if not path.exists():
        raise LineageError(f"{path} is missing: run {mend}.")
    if file_identity(path) != recorded:
        raise LineageError(
            f"{path} is not the file that its record names (damaged, or of another run): run {mend} again."
        )


def hold(folder):
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
