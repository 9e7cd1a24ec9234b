"""Files that survive a crash whole, and the lock that keeps two processes from writing one directory.

A file is written beside its place, flushed, and renamed over it: after a power loss there is the old content or
the new, never a part (rename(2), fsync(2)). The name beside it starts with a dot, so that it is never served.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Write = Callable[[Path, bytes], None]
"""How a signed file reaches its place; `write_durably` is the one that serves."""


def write_durably(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `content` atomically; return when the content and its name are on the disk.

    Parent directories are made. Two writers of one path at a time must hold `exclusive`.
    """
    _make_directory(path.parent)
    beside = path.with_name(f".{path.name}.new")
    # A file left by a crash may carry another mode; a new file never does.
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    flush_directory(path.parent)


@contextmanager
def exclusive(directory: Path, lock_name: str = ".lock") -> Iterator[None]:
    """Wait until no other thread or process on this machine is inside `exclusive(directory)`, then enter.

    The lock falls with its holder, also with a killed one (flock(2)); it is not re-entrant. Locks of
    different names in one directory do not know each other.
    """
    _make_directory(directory)
    with (directory / lock_name).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_directory(directory: Path) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    flush_directory(directory.parent)


def flush_directory(directory: Path) -> None:
    """Return when the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
