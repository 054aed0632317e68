"""Files that are written whole or not at all, by one writer at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_in_this_process = threading.Lock()


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """One writer at a time in a directory, on this machine; a lock on the directory leaves no extra file behind.

    Within a process a thread lock comes first: waiting for it lets greenlets run, waiting in flock does not.

    Raises:
        OSError: the directory can't be opened.
    """
    with _in_this_process:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            # Not left to close(): gevent's closes a directory only later, in its event loop.
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Put a file in the place of another, or of none, at once: whoever reads sees the old or the new one, whole.

    It is never more open than 0600 before it is complete, and survives a loss of power.

    Raises:
        OSError: it can't be written; the old file is then as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as sink:
            sink.write(content)
            sink.flush()
            os.fchmod(sink.fileno(), mode)
            os.fsync(sink.fileno())
        Path(name).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
