"""Where a file comes from: the content of the files that made it, and how."""

import hashlib
from pathlib import Path

BLOCK = 1 << 20


def file_identity(path):
    """Name, size in bytes and sha256 (hex) of the file's content: what a file is, whatever its time or folder."""
    path = Path(path)
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            size += len(block)
    return {"name": path.name, "bytes": size, "sha256": digest.hexdigest()}
