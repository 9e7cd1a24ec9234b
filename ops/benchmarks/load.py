"""A load generator in a process of its own: keep-alive connections whose answers are only counted.

Reads one JSON object from standard input (see `Load`), writes one to standard output. Reports are numbered and signed
as they are sent, by devices that keep to one connection each, as real ones do: their numbers arrive in order.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, cycle, islice
from typing import Any, cast

import uvloop
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from device_agent.protocol.messages import SIGNATURE_HEADER
from tests.support.machines import signature_of


@dataclass(frozen=True)
class Reporter:
    """A device that reports."""

    id: str
    key_pem: str
    token: str


@dataclass(frozen=True)
class Load:
    """What to send, and what to expect. Requests as they are, or reports of these devices."""

    port: int
    status: int
    seconds: float
    requests: tuple[str, ...] = ()
    """Whole requests, sent in turn."""
    reporters: tuple[Reporter, ...] = ()
    items: str = "[]"
    """What each report says, as JSON."""
    connections: int = 64
    depth: int = 1
    """Requests under way on each connection."""


@dataclass(frozen=True)
class Answered:
    """How fast the server was, and how busy the generator: near 1.0 it was the generator that was measured."""

    per_s: float
    busy: float


def run(load: Load) -> Answered:
    """Run the load in a process of its own; RuntimeError when an answer has another status than expected."""
    command = [sys.executable, "-m", "ops.benchmarks.load"]
    done = subprocess.run(command, input=json.dumps(asdict(load)), stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    if result["others"]:
        raise RuntimeError(f"{result['others']} answers were not {load.status}: {result['example']!r}")
    return Answered(result["answers"] / result["seconds"], round(result["busy_s"] / result["seconds"], 2))


class _Counter:
    """Counts a mark in a stream that arrives in pieces."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._end = b""

    def feed(self, piece: bytes) -> int:
        piece = self._end + piece
        # One byte too short for a whole mark, so that nothing is counted twice.
        self._end = piece[-(len(self._mark) - 1) :]
        return piece.count(self._mark)


class _Connection(asyncio.Protocol):
    """Sends a request for every answer."""

    def __init__(self, load: Load, requests: Iterator[str]) -> None:
        self.answers = 0
        self.expected = 0
        self.example = ""
        self._load = load
        self._requests = requests
        self._sent = 0
        self._ended: asyncio.Future[None] | None = None
        self._any, self._good = _Counter(b"HTTP/1.1 "), _Counter(b"HTTP/1.1 %d" % load.status)
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send(self._load.depth)

    def data_received(self, data: bytes) -> None:
        answers, expected = self._any.feed(data), self._good.feed(data)
        if expected < answers:
            self.example = data[:300].decode("latin-1")
        self.answers += answers
        self.expected += expected
        if self._ended is None:
            self._send(answers)
        elif self.answers == self._sent:
            self._transport.close()
            self._ended.set_result(None)

    def _send(self, number: int) -> None:
        self._sent += number
        self._transport.write("".join(islice(self._requests, number)).encode("latin-1"))

    def end(self) -> "asyncio.Future[None]":
        """Send nothing more; return what is done once every request has been answered."""
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended


async def _run(load: Load) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    connections = []
    for index in range(load.connections):
        requests = _reports(load, index) if load.reporters else _plain(load, index)
        made = loop.create_connection(
            lambda requests=requests: _Connection(load, requests),  # type: ignore[misc]
            "127.0.0.1",
            load.port,
        )
        connections.append((await made)[1])
    await asyncio.sleep(0.2)  # Connections and caches are warm before counting begins.
    before, busy, started = sum(c.expected for c in connections), time.process_time(), time.monotonic()
    await asyncio.sleep(load.seconds)
    answers, seconds = sum(c.expected for c in connections) - before, time.monotonic() - started
    busy_s = time.process_time() - busy
    await asyncio.wait_for(asyncio.gather(*(connection.end() for connection in connections)), 60)
    # A status line that was cut in two is counted as an answer before it is known to be the expected one.
    others = sum(max(c.answers - c.expected - 1, 0) for c in connections)
    example = next((c.example for c in connections if c.answers > c.expected + 1), "")
    return {"answers": answers, "others": others, "example": example, "seconds": seconds, "busy_s": busy_s}


def _plain(load: Load, index: int) -> Iterator[str]:
    """Yield all requests in turn for ever; each connection begins at another one."""
    first = index * (len(load.requests) // load.connections)
    return cycle((*load.requests[first:], *load.requests[:first]))


def _reports(load: Load, index: int) -> Iterator[str]:
    """Yield the reports of this connection's own devices, in turn for ever."""
    spool = f"spool-{time.time_ns()}"
    devices = []
    for reporter in load.reporters[index :: load.connections]:
        key = load_pem_private_key(reporter.key_pem.encode(), None)
        devices.append((reporter, cast("ec.EllipticCurvePrivateKey", key)))
    for seq in count(1):
        for reporter, key in devices:
            body = (
                f'{{"schema":1,"batch":"{spool}-{seq}","boot":"boot","dropped":0,"items":{load.items},'
                f'"device":"{reporter.id}","spool":"{spool}","seq":{seq}}}'
            )
            yield (
                f"POST /device/v1/reports HTTP/1.1\r\nhost: controller\r\nauthorization: Bearer {reporter.token}\r\n"
                f"{SIGNATURE_HEADER}: {signature_of(key, body.encode())}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
            )


def _read(document: dict[str, Any]) -> Load:
    reporters = tuple(Reporter(**reporter) for reporter in document.pop("reporters"))
    return Load(**{**document, "requests": tuple(document["requests"])}, reporters=reporters)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(_read(json.load(sys.stdin))))))
