"""Bytes from the controller's static files, each with a length it may not exceed and a time it must arrive in.

Nothing that arrives here is believed: callers compare it with what was signed or hashed.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient.fetcher import FetcherInterface

METADATA_S = 30.0
"""A metadata file must be there within this time."""
SLOWEST_BYTES_S = 16 * 1024
"""An artifact must come at least so fast, on average over all of it."""
PIECE_BYTES = 256 * 1024
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)


class SourceError(Exception):
    """The bytes could not be had: no answer, another status than 200, too many bytes, too slow."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """Keep the HTTP status, None where there was none."""
        self.status = status
        super().__init__(message)


class Source:
    """The static files of one controller. Follows no redirects, and shows a token for artifacts alone."""

    def __init__(self, server: str, transport: httpx.BaseTransport | None = None, *, token: str | None = None) -> None:
        """Take the controller's address, and for tests a transport that needs no network.

        With an operator's `token` the controller also sends the plaintexts of sealed models.
        """
        self.server = server.rstrip("/")
        self._shown = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.server, timeout=_TIMEOUT, transport=transport)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pieces(self, path: str, *, bytes_max: int, deadline_s: float) -> Iterator[bytes]:
        """Yield a file's bytes; SourceError as soon as it is known that they will not be right."""
        ends_s = time.monotonic() + deadline_s
        got = 0
        try:
            headers = {"Accept-Encoding": "identity"} | (self._shown if path.startswith("/artifacts/") else {})
            with self._http.stream("GET", path, headers=headers) as answer:
                if answer.status_code != 200:
                    raise SourceError(f"{path} was answered with status {answer.status_code}", answer.status_code)
                for piece in answer.iter_bytes(PIECE_BYTES):
                    got += len(piece)
                    if got > bytes_max:
                        raise SourceError(f"{path} goes on behind {bytes_max} bytes")
                    if time.monotonic() > ends_s:
                        raise SourceError(f"{path} did not arrive within {deadline_s:.0f} s")
                    yield piece
        except httpx.HTTPError as error:
            raise SourceError(f"{path}: {str(error) or type(error).__name__}") from error

    def download(self, path: str, target: Path, *, length: int) -> None:
        """Write a file that must not be longer than `length` bytes to `target`."""
        deadline_s = METADATA_S + length / SLOWEST_BYTES_S
        with target.open("wb") as file:
            for piece in self.pieces(path, bytes_max=length, deadline_s=deadline_s):
                file.write(piece)

    def fetch(self, path: str, *, bytes_max: int) -> bytes:
        """Return a small file."""
        return b"".join(self.pieces(path, bytes_max=bytes_max, deadline_s=METADATA_S))


class SourceFetcher(FetcherInterface):
    """The same files for python-tuf, which has no total deadline of its own and would follow redirects."""

    def __init__(self, source: Source, bytes_max: int) -> None:
        """Take the source and the most bytes that any file may have."""
        self._source = source
        self._bytes_max = bytes_max

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(self._source.server)
        try:
            return iter([self._source.fetch(path, bytes_max=self._bytes_max)])
        except SourceError as error:
            if error.status is not None:
                raise DownloadHTTPError(str(error), error.status) from error
            raise DownloadError(str(error)) from error
