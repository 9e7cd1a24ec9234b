"""A small HTTP/1.1 server on asyncio streams, for TCP and Unix sockets.

It needs nothing but the standard library, so it runs wherever Python does; a general ASGI server took 1.6
times as long for a small request. One connection carries one request at a time; a connection that takes longer than
its patience is aborted by one task for all of them, because a timer per read would cost a fifth of the
time of a small request.
"""

import asyncio
import contextlib
import logging
import math
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from device_agent.serving.errors import RequestRefused
from device_agent.serving.http_messages import (
    CONTINUE,
    Head,
    Request,
    Response,
    error_response,
    parse_head,
    render_response,
)

Handler = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger(__name__)
_REAP_EVERY_S = 1.0
_UNSENT_BYTES_MAX = 1 << 20
_LINGER_S = 0.25
"""How long an idle connection is still listened to during a stop: a request already on its way is answered."""
_DISCARD_S = 5.0
_SET_UP_TURNS = 8
"""Turns of the event loop, with some to spare, from accepting a connection to its first read."""


@dataclass(frozen=True)
class Limits:
    """What clients may cost the process."""

    head_bytes_max: int = 32 * 1024
    body_bytes_max: int = 16 * 1024 * 1024
    connections_max: int = 128
    idle_s: float = 75.0
    """Patience for the next request on an open connection."""
    transfer_s: float = 30.0
    """Patience for one body to arrive, or for one response to be taken."""


class _Connection:
    __slots__ = ("deadline_s", "idle", "reader", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.idle = True
        self.deadline_s = math.inf


class HttpServer:
    """Serves one handler on any number of listening sockets."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self._handler = handler
        self._limits = limits or Limits()
        self._connections: set[_Connection] = set()
        self._listeners: list[asyncio.Server] = []
        self._reaper: asyncio.Task[None] | None = None
        self._stopping = False

    async def listen(self, listening: socket.socket) -> None:
        """Serve on a bound stream socket, which the server owns from now on."""
        self._listeners.append(
            await asyncio.start_server(self._converse, sock=listening, limit=self._limits.head_bytes_max, backlog=512)
        )
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap_for_ever())

    async def stop(self, *, drain_s: float) -> None:
        """Take no more connections, answer what has arrived with `connection: close`, then end.

        Whatever is unanswered after `drain_s` is cut off.
        """
        self._stopping = True
        await self._close_listeners()
        begun_s = _now_s()
        for connection in self._connections:
            if connection.idle:
                connection.deadline_s = begun_s + _LINGER_S
        while self._connections and _now_s() < begun_s + drain_s:
            await asyncio.sleep(0.01)
            self._reap()
        for connection in self._connections:
            connection.writer.transport.abort()
        if self._reaper:
            self._reaper.cancel()

    async def _close_listeners(self) -> None:
        # asyncio forgets a connection that it has accepted but not set up when its listener closes
        # (CPython issue 109564), so accepting ends first, and what was accepted is set up.
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            for listening in listener.sockets:
                loop.remove_reader(listening)
        for _ in range(_SET_UP_TURNS):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()

    async def _reap_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_REAP_EVERY_S)
            self._reap()

    def _reap(self) -> None:
        now = _now_s()
        for connection in self._connections:
            if connection.deadline_s < now:
                connection.writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer)
        self._connections.add(connection)
        # A peer that goes away in the middle leaves nobody to answer.
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            try:
                self._check_room()
                while await self._exchange(connection):
                    pass
            except RequestRefused as refusal:
                await self._refuse(connection, refusal)
        connection.deadline_s = _now_s() + self._limits.transfer_s
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._connections.discard(connection)

    def _check_room(self) -> None:
        if len(self._connections) > self._limits.connections_max:
            raise RequestRefused(503, f"{self._limits.connections_max} connections are open; no more are taken")

    async def _exchange(self, connection: _Connection) -> bool:
        """Answer one request; return whether the connection stays open for another."""
        head = await self._read_head(connection)
        body = await self._read_body(connection, head) if head.body_bytes else b""
        connection.deadline_s = math.inf
        response = await self._answer(Request(head.method, head.path, head.headers, body))
        keep_alive = head.keep_alive and not self._stopping
        writer = connection.writer
        writer.write(render_response(response, keep_alive=keep_alive, with_body=head.method != "HEAD"))
        if writer.transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
            connection.deadline_s = _now_s() + self._limits.transfer_s
            await writer.drain()
        return keep_alive

    async def _read_head(self, connection: _Connection) -> Head:
        connection.idle = True
        connection.deadline_s = _now_s() + (_LINGER_S if self._stopping else self._limits.idle_s)
        try:
            raw = await connection.reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            message = f"request head is longer than {self._limits.head_bytes_max} bytes"
            raise RequestRefused(431, message) from error
        connection.idle = False
        return parse_head(raw, body_bytes_max=self._limits.body_bytes_max)

    async def _read_body(self, connection: _Connection, head: Head) -> bytes:
        connection.deadline_s = _now_s() + self._limits.transfer_s
        if head.expects_continue:
            connection.writer.write(CONTINUE)
        return await connection.reader.readexactly(head.body_bytes)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception:  # noqa: BLE001 - one broken request must not end the process; the log has it
            _log.exception("the handler failed on %s %s", request.method, request.path)
            return error_response(500, "internal error; the log of the serving process says more")

    async def _refuse(self, connection: _Connection, refusal: RequestRefused) -> None:
        """Answer a request whose end is unknown, then read on until the client has seen the answer.

        Closing with unread bytes would reset the connection and could take the answer with it.
        """
        connection.idle = False
        connection.deadline_s = _now_s() + _DISCARD_S
        response = error_response(refusal.status, str(refusal))
        connection.writer.write(render_response(response, keep_alive=False))
        connection.writer.write_eof()
        while await connection.reader.read(1 << 16):
            pass


def _now_s() -> float:
    return asyncio.get_running_loop().time()
