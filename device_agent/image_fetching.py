"""How python-tuf's client fetches for this agent, and what its errors are called here.

Its own fetcher bounds only the gap between two bytes and follows redirects; its errors carry neither the role that was
at fault nor the attack that it looks like. The fetcher here remembers the last address, which tells the role.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tuf.api import exceptions
from tuf.api.serialization import DeserializationError
from tuf.ngclient.fetcher import FetcherInterface

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.transport import QUICK, Transport, retry_after_s

_FILE_BYTES_MAX = 512 * 1024
_TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
_EXPIRED = re.compile(r"(?:Final |New )?(\S+?)(?:\.json)? is expired")


class OverloadedError(ProtocolError):
    """The repository asks to come back later."""

    def __init__(self, status: int, seconds: float | None) -> None:
        """`seconds` is what it asked for, if it did."""
        super().__init__(Code.HTTP, f"status {status}", status=status)
        self.seconds = seconds


class BoundedFetcher(FetcherInterface):
    """Fetches through the shared transport: total deadline, slowest rate, largest size, no redirects."""

    def __init__(self, transport: Transport) -> None:
        """Nothing is fetched yet."""
        self._transport = transport
        self.last_url = ""
        self.failure: ProtocolError | None = None
        self.timestamp: bytes | None = None
        """The timestamp as the repository served it, whether it was then believed or not."""

    def begin(self) -> None:
        """Forget what failed before."""
        self.failure = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.last_url = url
        try:
            answer = self._transport.call("GET", url, bytes_max=_FILE_BYTES_MAX, pace=QUICK)
        except ProtocolError as error:
            self.failure = error
            raise exceptions.DownloadError(str(error)) from error
        if answer.status in {429, 503}:
            self.failure = OverloadedError(answer.status, retry_after_s(answer.headers))
        if answer.status != 200:
            raise exceptions.DownloadHTTPError(f"status {answer.status}", answer.status)
        if url.endswith("/timestamp.json"):
            self.timestamp = answer.body
        return iter([answer.body])


_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (exceptions.UnsignedMetadataError, Code.SIGNATURE),
    (exceptions.BadVersionNumberError, Code.ROLLBACK_OR_MIX),
    (exceptions.ExpiredMetadataError, Code.EXPIRED),
    (exceptions.LengthOrHashMismatchError, Code.HASH_MISMATCH),
    (DeserializationError, Code.MALFORMED),
    (exceptions.RepositoryError, Code.METADATA),
    (exceptions.DownloadLengthMismatchError, Code.ENDLESS_DATA),
    (exceptions.SlowRetrievalError, Code.SLOW_RETRIEVAL),
    (exceptions.DownloadHTTPError, Code.HTTP),
    (exceptions.DownloadError, Code.NETWORK),
)
"""python-tuf's errors, the more special before the more general."""


@contextmanager
def translated(fetcher: BoundedFetcher) -> Iterator[None]:
    """Raise python-tuf's errors as ProtocolError with code and role."""
    fetcher.begin()
    try:
        yield
    except (exceptions.DownloadError, exceptions.RepositoryError) as error:
        role = _role(fetcher.last_url, str(error))
        if fetcher.failure and isinstance(error, exceptions.DownloadError):
            fetcher.failure.role = role
            raise fetcher.failure from error
        code = next(code for known, code in _CODES if isinstance(error, known))
        status = error.status_code if isinstance(error, exceptions.DownloadHTTPError) else None
        raise ProtocolError(code, str(error), role=role, status=status) from error


def _role(url: str, message: str) -> str:
    """Name the role at fault: by the message where it says so (what came from the cache), else by the last address."""
    expired = _EXPIRED.search(message)
    name = expired[1] if expired else url.rsplit("/", 1)[-1].removesuffix(".json").rsplit(".", 1)[-1]
    if name == "manifest":
        return "target"
    return name if name in _TOP_LEVEL else "delegated"
