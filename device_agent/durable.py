"""Files that survive a loss of power: written whole, synced, and put in place by one rename.

A rename is durable only after both the file's bytes and the directory's entry have been synced; without the
second, a power cut may bring back a directory that never heard of the file.
"""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whose bytes are durable; its directory entry is not yet."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put new content at `path`: after any interruption the file is wholly old or wholly new."""
    fresh = path.with_name(path.name + ".tmp")
    write_synced(fresh, content, mode)
    fresh.replace(path)
    sync_directory(path.parent)


def move_directory_durably(source: Path, target: Path) -> None:
    """Move a directory whose files are synced already; both parents learn of it."""
    sync_directory(source)
    source.rename(target)
    sync_directory(target.parent)
    sync_directory(source.parent)
