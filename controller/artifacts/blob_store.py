"""Artifacts on disk, named by their content: `sha256/ab/abcdef...`.

Bytes arrive in pieces, are hashed once on the way, and appear under their name only when they are complete and
on the disk; a name never changes its content. What a crash leaves behind lies in `incoming/` and has no name.

A blob that only operators may read (`withhold`) has the mode 0600: a web server under another account cannot send it
either. Backups must keep modes.
"""

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from controller.domain.errors import InvalidInput, Unavailable
from device_agent.protocol.manifest import CHUNK_BYTES

PIECE_BYTES = 1024 * 1024
ABANDONED_AFTER_S = 24 * 3600
"""Longer than any upload or job: what lies in `incoming/` untouched for so long belongs to a process that died."""
OPEN = 0o644
"""A web server under another account may send it."""
WITHHELD = 0o600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class StoredBlob:
    """What the store calls some bytes."""

    sha256: str
    size_bytes: int


class BlobWriter:
    """Takes one artifact's bytes in order. End it with `commit` or `abort`; a refused piece aborts it by itself.

    Calls may come from different threads, one at a time.
    """

    def __init__(self, file: BinaryIO, temporary: Path, store: "BlobStore", bytes_max: int | None) -> None:
        """Take an open file that lies at `temporary`; `BlobStore.open_writer` makes instances."""
        self._file = file
        self._temporary = temporary
        self._store = store
        self._bytes_max = bytes_max
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Append a piece. InvalidInput(`too_large`) or Unavailable(`disk_full`): nothing is left behind."""
        self._size_bytes += len(piece)
        try:
            self._refuse_too_large()
            self._store.refuse_full_disk()
            self._digest.update(piece)
            with _space_errors():
                self._file.write(piece)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> StoredBlob:
        """Put the bytes under their name, durably, and return it. Unavailable(`disk_full`) leaves nothing behind."""
        try:
            with _space_errors():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                stored = StoredBlob(self._digest.hexdigest(), self._size_bytes)
                self._store.adopt(self._temporary, stored.sha256)
        except BaseException:
            self.abort()
            raise
        return stored

    def abort(self) -> None:
        """Forget everything that was fed; harmless after `commit` and when called twice."""
        try:
            self._file.close()
        except OSError as error:  # the buffer's last bytes may not fit either
            if error.errno not in _NO_SPACE:
                raise
        self._temporary.unlink(missing_ok=True)

    def _refuse_too_large(self) -> None:
        if self._bytes_max is not None and self._size_bytes > self._bytes_max:
            raise InvalidInput(
                f"the upload has more than {self._bytes_max} bytes, which is the limit (artifact_bytes_max)",
                code="too_large",
            )


class BlobStore:
    """Artifacts below one directory. Safe in several processes at once: equal names are equal bytes."""

    def __init__(self, directory: Path, *, reserve_bytes: int = 0) -> None:
        """Name the directory, which is made when needed, and how many free bytes its disk must keep."""
        self._directory = directory
        self._incoming = directory / "incoming"
        self._reserve_bytes = reserve_bytes

    def open_writer(self, bytes_max: int | None = None) -> BlobWriter:
        """Begin an artifact of at most `bytes_max` bytes; Unavailable(`disk_full`) when there is no room at all."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        self.refuse_full_disk()
        with _space_errors():
            descriptor, name = tempfile.mkstemp(dir=self._incoming)
        return BlobWriter(os.fdopen(descriptor, "wb"), Path(name), self, bytes_max)

    def add_file(self, path: Path) -> StoredBlob:
        """Store a copy of a file."""
        writer = self.open_writer()
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    writer.feed(piece)
        except BaseException:
            writer.abort()
            raise
        return writer.commit()

    def path(self, sha256: str) -> Path:
        """Return where the artifact lies, or would lie."""
        return self._directory / "sha256" / sha256[:2] / sha256

    def size_bytes(self, sha256: str) -> int:
        """Return the artifact's length."""
        return self.path(sha256).stat().st_size

    def chunks(self, sha256: str) -> tuple[str, ...]:
        """Return the sha256 of each CHUNK_BYTES of the artifact, as manifests name them."""
        with self.path(sha256).open("rb") as file:
            return tuple(hashlib.sha256(chunk).hexdigest() for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))

    def withhold(self, sha256: str) -> None:
        """Keep an artifact from whoever is no operator: storing the same bytes again leaves it withheld."""
        self.path(sha256).chmod(WITHHELD)

    def disclose(self, sha256: str) -> None:
        """Let everybody have an artifact."""
        self.path(sha256).chmod(OPEN)

    def is_withheld(self, sha256: str) -> bool:
        """Tell whether only operators may have an artifact; one that is not there is not withheld."""
        try:
            return not self.path(sha256).stat().st_mode & 0o004
        except FileNotFoundError:
            return False

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Lend a folder on the artifacts' disk; it is removed at the end."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._incoming, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def lock_file(self, name: str) -> Path:
        """Return a file beside the artifacts that the processes of this machine may lock to take turns."""
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory / f"{name}.lock"

    def remove_abandoned(self) -> int:
        """Remove what killed processes left in `incoming/`; return how many entries."""
        oldest_s = time.time() - ABANDONED_AFTER_S
        abandoned = [path for path in self._incoming.glob("*") if path.stat().st_mtime < oldest_s]
        for path in abandoned:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(abandoned)

    def refuse_full_disk(self) -> None:
        """Raise Unavailable(`disk_full`) when the disk has no more than its reserve left."""
        free_bytes = shutil.disk_usage(self._incoming).free
        if free_bytes <= self._reserve_bytes:
            raise _disk_full(f"{free_bytes} bytes are free and {self._reserve_bytes} must stay so")

    def adopt(self, temporary: Path, sha256: str) -> None:
        """Move a complete file that is on the disk to its name, durably."""
        final = self.path(sha256)
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(WITHHELD if self.is_withheld(sha256) else OPEN)
        temporary.replace(final)
        for directory in (final.parent, final.parent.parent):
            _flush_directory(directory)


@contextmanager
def _space_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise _disk_full(str(error)) from error
        raise


def _disk_full(why: str) -> Unavailable:
    return Unavailable(
        f"the artifact disk is full: {why}; free some space on the controller and upload again", code="disk_full"
    )


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
