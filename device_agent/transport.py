"""HTTP with bounds: every answer has a largest size, a total deadline and a slowest rate.

A socket's own timeout bounds only the gap between two bytes, so a peer that sends one byte a second could hold
the agent for ever. Redirects are refused and the environment's proxies are ignored: the agent talks to the
controller that it was configured with. One connection pool is shared by everything the agent fetches.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from device_agent.protocol.errors import Code, ProtocolError

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Pace:
    """How slow an answer may be."""

    deadline_s: float
    """Most seconds spent reading one answer."""
    minimum_bytes_s: float
    """Least bytes a second, counted over the whole answer once `grace_s` have passed."""
    grace_s: float
    """Seconds of reading before the rate is judged."""


QUICK = Pace(deadline_s=60.0, minimum_bytes_s=200.0, grace_s=5.0)
"""For documents of some kilobytes: metadata, assignments, sessions."""


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_s(self) -> float | None:
        """The Retry-After header in seconds; None where absent or given as a date.

        A date would have to be compared with the device's clock, which may be wrong by decades.
        """
        return retry_after_s(self.headers)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds; None where absent or given as a date."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else None


class PaceKeeper:
    """Judges one answer's pace by the time spent reading it, so that pauses of our own do not count."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        """Start with nothing read."""
        self._pace = pace
        self._clock = clock
        self._reading_s = 0.0
        self._bytes = 0

    def read(self, response: BaseHTTPResponse, bytes_most: int) -> bytes:
        """Read what one call to the socket gives; empty at the end. SLOW_RETRIEVAL when the pace is broken."""
        began = self._clock()
        data: bytes = response.read1(bytes_most)
        self._reading_s += self._clock() - began
        self._bytes += len(data)
        self._judge()
        return data

    def _judge(self) -> None:
        pace = self._pace
        if self._reading_s > pace.deadline_s:
            raise ProtocolError(Code.SLOW_RETRIEVAL, f"still reading after {pace.deadline_s:g} s")
        if self._reading_s > pace.grace_s and self._bytes < pace.minimum_bytes_s * self._reading_s:
            rate = self._bytes / self._reading_s
            raise ProtocolError(Code.SLOW_RETRIEVAL, f"{rate:.0f} bytes/s; at least {pace.minimum_bytes_s:g}")


class Transport:
    """A connection pool with bounds. Not for several threads at once: each answer is read to its end or closed."""

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        client_certificate: tuple[str, str] | None = None,
        connect_s: float = 10.0,
        silence_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Trust the system's certificate authorities, or only those in `ca_file`.

        `client_certificate` are the files of a certificate and its key, read anew for every connection.
        """
        self._clock = clock
        certificate, key = client_certificate or (None, None)
        self._pool = urllib3.PoolManager(
            num_pools=4,
            maxsize=2,
            retries=False,
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca_file,
            cert_file=certificate,
            key_file=key,
            timeout=urllib3.Timeout(connect=connect_s, read=silence_s),
            headers={"User-Agent": "edgefleet-agent", "Accept-Encoding": "identity"},
        )

    def call(
        self,
        method: str,
        url: str,
        *,
        bytes_max: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        pace: Pace = QUICK,
    ) -> Answer:
        """Return the whole answer, whatever its status.

        NETWORK when there is none, ENDLESS_DATA when it is longer than `bytes_max`, SLOW_RETRIEVAL by `pace`.
        """
        with self.open(method, url, headers=headers, body=body) as response:
            pieces = list(self.pieces(response, bytes_max=bytes_max, pace=pace))
        return Answer(response.status, response.headers, b"".join(pieces))

    @contextmanager
    def open(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Iterator[BaseHTTPResponse]:
        """Yield an answer whose body is still to be read; a connection left with unread bytes is closed."""
        merged = {**self._pool.headers, **(headers or {})}
        try:
            response = self._pool.request(method, url, headers=merged, body=body, redirect=False, preload_content=False)
        except (HTTPError, OSError) as error:
            raise ProtocolError(Code.NETWORK, f"{method} {url}: {error}") from error
        try:
            yield response
        except (HTTPError, OSError) as error:
            raise ProtocolError(Code.NETWORK, f"{method} {url}: {error}") from error
        finally:
            response.close()
            response.release_conn()

    def keeper(self, pace: Pace) -> PaceKeeper:
        """Return a judge of one answer's pace, for readers that take an answer piece by piece."""
        return PaceKeeper(pace, self._clock)

    def pieces(self, response: BaseHTTPResponse, *, bytes_max: int, pace: Pace) -> Iterator[bytes]:
        """Yield the body as it comes, with the bounds of `call`."""
        keeper, total = self.keeper(pace), 0
        while piece := keeper.read(response, _PIECE_BYTES):
            total += len(piece)
            if total > bytes_max:
                raise ProtocolError(Code.ENDLESS_DATA, f"more than {bytes_max} bytes from {response.url}")
            yield piece
