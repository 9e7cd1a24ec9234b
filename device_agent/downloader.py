"""Downloads of artifacts in chunks whose hashes the manifest signs: resumable, bounded, and wrong by one chunk at most.

There is no progress file. The part file is hashed again when a download starts, and whatever does not fit its
chunk hash is cut off, so a half-written or damaged tail costs one chunk and nothing can be believed twice.

A download is an iterator of waits in seconds: zero after a chunk, more where it backs off. Between two steps
the caller is free to do other work, or never to come back; the part file stands for itself.
"""

import hashlib
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from random import Random

from urllib3.response import BaseHTTPResponse

from device_agent.polling import Backoff, retry_s
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import CHUNK_BYTES, ArtifactEntry, Packed, Sealed
from device_agent.transport import Pace, PaceKeeper, Transport, retry_after_s

_PIECE_BYTES = 64 * 1024
Download = ArtifactEntry | Packed | Sealed
"""Bytes that have a length, a name and chunk hashes of their own."""


@dataclass(frozen=True)
class DownloadLimits:
    """When a download is given up."""

    tries: int
    """Attempts in a row that brought no new chunk."""
    backoff: Backoff
    pace: Pace


class _RetryLater(Exception):
    """The attempt ended; `retry_after_s` is what the server asked for."""

    def __init__(self, cause: ProtocolError, retry_after_s: float | None = None) -> None:
        self.cause = cause
        self.retry_after_s = retry_after_s
        super().__init__(str(cause))


class _DiskError(Exception):
    """Carries an OSError of the disk past the transport, which takes every OSError for one of the link."""

    def __init__(self, cause: OSError) -> None:
        self.cause = cause
        super().__init__(str(cause))


@contextmanager
def _of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _DiskError(error) from error


class _PartFile:
    """The verified beginning of a download."""

    def __init__(self, path: Path, wanted: Download) -> None:
        self._name = path.name
        self._wanted = wanted
        # Unbuffered: what a failed write leaves in a buffer would fail once more when the file is closed.
        self._file: FileIO = path.open("r+b" if path.exists() else "w+b", buffering=0)
        self.chunks = 0

    def verify(self) -> None:
        """Cut the file off behind its last good chunk."""
        while not self.complete and self._fits(self._file.read(self.next_bytes)):
            self.chunks += 1
        self._file.truncate(self.offset)

    @property
    def offset(self) -> int:
        return min(self.chunks * CHUNK_BYTES, self._wanted.length)

    @property
    def next_bytes(self) -> int:
        return min(CHUNK_BYTES, self._wanted.length - self.offset)

    @property
    def complete(self) -> bool:
        return self.chunks == len(self._wanted.chunks)

    def _fits(self, data: bytes) -> bool:
        return hashlib.sha256(data).hexdigest() == self._wanted.chunks[self.chunks]

    def append(self, data: bytes) -> None:
        if not self._fits(data):
            raise ProtocolError(Code.HASH_MISMATCH, f"chunk {self.chunks} of {self._name}", role="artifact")
        self._file.seek(self.offset)
        written = 0
        while written < len(data):
            written += self._file.write(data[written:])
        self.chunks += 1

    def close(self) -> None:
        with self._file:
            os.fsync(self._file.fileno())


class Downloader:
    """Fetches artifacts by their sha256 from one place."""

    def __init__(self, transport: Transport, artifacts_url: str, limits: DownloadLimits, random: Random) -> None:
        """`artifacts_url` is what a digest is appended to."""
        self._transport = transport
        self._url = artifacts_url.rstrip("/")
        self._limits = limits
        self._random = random

    def fetch(self, wanted: Download, path: Path) -> Generator[float]:
        """Complete the part file at `path`; yield how long to wait before each next step.

        At the end every chunk is as signed and the file is synced. Raises the last attempt's ProtocolError when
        `tries` attempts in a row brought nothing, and OSError when the disk does not take it.
        """
        part = _PartFile(path, wanted)
        try:
            part.verify()
            failures = 0
            while not part.complete:
                before = part.chunks
                try:
                    yield from self._attempt(wanted, part)
                except _RetryLater as stop:
                    failures = 1 if part.chunks > before else failures + 1
                    if failures >= self._limits.tries:
                        raise stop.cause from stop
                    yield retry_s(failures, self._limits.backoff, self._random, stop.retry_after_s)
        finally:
            part.close()

    def _attempt(self, wanted: Download, part: _PartFile) -> Iterator[float]:
        offset = part.offset
        headers = {"Range": f"bytes={offset}-", "If-Range": f'"sha256-{wanted.sha256}"'}
        try:
            with self._transport.open("GET", f"{self._url}/{wanted.sha256}", headers=headers) as response:
                keeper = self._transport.keeper(self._limits.pace)
                if _starts_at(response, wanted, offset) == 0:
                    _read_exactly(response, keeper, offset)
                while not part.complete:
                    data = _read_exactly(response, keeper, part.next_bytes)
                    with _of_the_disk():
                        part.append(data)
                    yield 0.0
        except ProtocolError as error:
            raise _RetryLater(error) from error
        except _DiskError as error:
            raise error.cause from error


def _starts_at(response: BaseHTTPResponse, wanted: Download, offset: int) -> int:
    """Return the offset that the answer begins at: the one asked for, or 0 where the server ignores ranges."""
    if response.status == 200:
        return 0
    if response.status == 206:
        given, asked = response.headers.get("Content-Range"), f"bytes {offset}-{wanted.length - 1}/{wanted.length}"
        if given == asked:
            return offset
        raise ProtocolError(Code.HTTP, f"Content-Range is {given!r}; asked for {asked!r}", role="artifact")
    message = f"status {response.status} for artifact {wanted.sha256}"
    error = ProtocolError(Code.HTTP, message, role="artifact", status=response.status)
    raise _RetryLater(error, retry_after_s(response.headers))


def _read_exactly(response: BaseHTTPResponse, keeper: PaceKeeper, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = keeper.read(response, min(_PIECE_BYTES, count - len(data)))
        if not piece:
            raise ProtocolError(Code.NETWORK, "the connection was cut", role="artifact")
        data += piece
    return bytes(data)
