"""The HTTP server on real sockets: framing, limits, slow clients and a graceful stop."""

import asyncio
import contextlib
import http.client
import logging
import socket
import threading
from collections.abc import Iterator

import pytest

from device_agent.serving.http_messages import Request, Response
from device_agent.serving.http_server import Handler, HttpServer, Limits


async def echo(request: Request) -> Response:
    return Response(200, f"{request.method} {request.path} ".encode() + request.body, "text/plain")


class Running:
    """A server in a thread, and a way to stop it from here."""

    def __init__(self, handler: Handler, limits: Limits | None) -> None:
        self._server = HttpServer(handler, limits)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(30)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        await self._server.listen(self._listening)
        self._ready.set()
        await self._ended.wait()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def stop(self, drain_s: float = 30.0) -> None:
        """Stop the server; return when it has drained."""
        asyncio.run_coroutine_threadsafe(self._server.stop(drain_s=drain_s), self._loop).result(60)

    def close(self) -> None:
        self.stop(drain_s=0.0)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(60)


@contextlib.contextmanager
def running(handler: Handler = echo, limits: Limits | None = None) -> Iterator[Running]:
    server = Running(handler, limits)
    try:
        yield server
    finally:
        server.close()


def read_to_the_end(connection: socket.socket) -> bytes:
    """Return all that the server sends before it closes; b"" when it aborts."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            received += part
    return received


def test_one_connection_carries_many_requests_even_when_they_arrive_at_once() -> None:
    with running() as server, server.connect() as connection:
        connection.sendall(
            b"POST /a?q HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n"
            b"GET /c HTTP/1.1\r\nconnection: close\r\n\r\n"
        )
        received = read_to_the_end(connection)

    assert [part.split(b"\r\n\r\n")[1] for part in received.split(b"HTTP/1.1 200 OK")[1:]] == [
        b"POST /a abc",
        b"GET /b ",
        b"GET /c ",
    ]
    assert received.count(b"connection: close") == 1


def test_a_body_that_arrives_in_pieces_is_put_together() -> None:
    body = bytes(range(256)) * 4096
    with running() as server, server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 100_000):
            connection.sendall(body[start : start + 100_000])

        assert read_to_the_end(connection).endswith(b"POST / " + body)


def test_a_client_that_waits_for_100_gets_it_before_it_sends_the_body() -> None:
    with running() as server, server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.0\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"

        connection.sendall(b"ok")
        assert read_to_the_end(connection).endswith(b"POST / ok")


def test_head_is_answered_without_a_body_and_the_connection_goes_on() -> None:
    with running() as server:
        connection = http.client.HTTPConnection(*server.address)
        with contextlib.closing(connection):
            connection.request("HEAD", "/")
            assert connection.getresponse().read() == b""
            connection.request("GET", "/again")
            assert connection.getresponse().read() == b"GET /again "


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /nonsense\r\n\r\n", b"400 Bad Request"),
        (b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"400 Bad Request"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"411 Length Required"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", b"431 Request Header Fields Too Large"),
        (b"GET /" + b"y" * 40_000, b"431 Request Header Fields Too Large"),
    ],
)
def test_a_request_that_cannot_be_framed_is_answered_once_and_the_connection_closed(raw: bytes, status: bytes) -> None:
    with running() as server, server.connect() as connection:
        connection.sendall(raw)
        received = read_to_the_end(connection)

    assert received.startswith(b"HTTP/1.1 " + status)
    assert received.count(b"content-type: ") == 1
    assert b'{"error": "' in received
    assert b"connection: close" in received


def test_a_client_that_sends_too_large_a_body_before_it_listens_still_reads_the_refusal() -> None:
    size = 4_000_000
    with running(limits=Limits(body_bytes_max=1000)) as server, server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size)
        connection.sendall(bytes(size))
        connection.shutdown(socket.SHUT_WR)
        received = read_to_the_end(connection)

    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"body has 4000000 bytes; at most 1000" in received


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab"])
def test_a_client_that_stops_in_the_middle_is_let_go(sent: bytes) -> None:
    with running(limits=Limits(idle_s=0.01, transfer_s=0.01)) as server, server.connect() as connection:
        connection.sendall(sent)

        assert read_to_the_end(connection) == b""


def test_a_client_that_never_reads_its_answer_is_let_go() -> None:
    async def much(request: Request) -> Response:
        return Response(200, bytes(32_000_000))

    with running(much, Limits(transfer_s=0.01)) as server, server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        # A second connection is answered after the first has been cut off, which makes room for it.
        with server.connect() as other:
            other.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert len(read_to_the_end(other)) <= 32_001_000
        assert len(read_to_the_end(connection)) < 64_000_000


def test_connections_over_the_limit_are_told_so() -> None:
    with running(limits=Limits(connections_max=1)) as server, server.connect() as first:
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert first.recv(1000).startswith(b"HTTP/1.1 200 OK")
        with server.connect() as second:
            second.shutdown(socket.SHUT_WR)
            assert read_to_the_end(second).startswith(b"HTTP/1.1 503 Service Unavailable")


def test_a_handler_that_raises_is_answered_with_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: Request) -> Response:
        raise KeyError("secret detail")

    with caplog.at_level(logging.ERROR), running(broken) as server, server.connect() as connection:
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        received = read_to_the_end(connection)

    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"secret detail" not in received
    assert "the handler failed on GET /x" in caplog.text


def test_a_stop_answers_what_has_begun_and_takes_nothing_new() -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def slow(request: Request) -> Response:
        begun.set()
        await asyncio.to_thread(go_on.wait, 60)
        return Response(200, b"done")

    with running(slow) as server, server.connect() as busy, server.connect() as idle:
        busy.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert begun.wait(30)
        stopping = threading.Thread(target=server.stop)
        stopping.start()

        assert read_to_the_end(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        go_on.set()
        received = read_to_the_end(busy)
        stopping.join(60)

    assert received.endswith(b"done")
    assert b"connection: close" in received


def test_a_request_on_its_way_when_the_stop_begins_is_answered() -> None:
    with running() as server, server.connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        connection.sendall(b"ok")
        received = read_to_the_end(connection)
        stopping.join(60)

    assert received.endswith(b"POST / ok")


def test_what_outlasts_the_drain_is_cut_off() -> None:
    async def never(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    with running(never) as server, server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        server.stop(drain_s=0.1)

        assert read_to_the_end(connection) == b""
