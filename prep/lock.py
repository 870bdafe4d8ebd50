"""One run at a time writes into a folder, and what is not finished lies aside in it."""

import contextlib
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from prep.errors import PrepError

WORKSPACE = ".unfinished.tmp"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Be the one run that writes into the folder; yields a new and empty folder in it for files that are not finished.

    What a killed run has left there goes; a link that somebody has put there is removed, not followed.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise PrepError(f"the folder {folder} cannot be opened ({error.strerror}).") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PrepError(f"another run is writing into {folder}: wait until it has ended, then try again.") from None
        workspace = folder / WORKSPACE
        if workspace.is_symlink() or workspace.is_file():
            workspace.unlink()
        elif workspace.exists():
            shutil.rmtree(workspace)
        workspace.mkdir(mode=0o700)
        try:
            yield workspace
        finally:
            with uninterrupted():
                shutil.rmtree(workspace, ignore_errors=True)
    finally:
        os.close(handle)


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
