"""A load generator in a process of its own: keep-alive connections whose answers are only counted.

Reads one JSON object from standard input (see `Load`), writes one to standard output.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, cast

import uvloop

NUMBER = "%NUMBER12%"
"""Stands for twelve digits that are different in every request."""


@dataclass(frozen=True)
class Load:
    """What to send, and what to expect."""

    port: int
    requests: list[str]
    """Whole requests, sent in turn."""
    status: int
    seconds: float
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

    def __init__(self, load: Load, numbers: "count[int]", first: int) -> None:
        self.answers = 0
        self.expected = 0
        self.example = ""
        self._load = load
        self._numbers = numbers
        self._first = self._next = first
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
        elif self.answers == self._next - self._first:
            self._transport.close()
            self._ended.set_result(None)

    def _send(self, number: int) -> None:
        requests = self._load.requests
        texts = []
        for _ in range(number):
            text = requests[self._next % len(requests)]
            self._next += 1
            texts.append(text.replace(NUMBER, f"{next(self._numbers):012d}") if NUMBER in text else text)
        self._transport.write("".join(texts).encode("latin-1"))

    def end(self) -> "asyncio.Future[None]":
        """Send nothing more; return what is done once every request has been answered."""
        self._ended = asyncio.get_running_loop().create_future()
        return self._ended


async def _run(load: Load) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    numbers = count(time.time_ns() // 1_000_000 % 10**9 * 1000)
    share = len(load.requests) // load.connections
    connections = []
    for index in range(load.connections):
        first = index * share
        made = loop.create_connection(lambda first=first: _Connection(load, numbers, first), "127.0.0.1", load.port)  # type: ignore[misc]
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


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_run(Load(**json.load(sys.stdin))))))
