"""A controller that says what a test tells it to: a loopback HTTP server with scripted answers.

For tests of the command line alone; what the real controller answers is the matter of the integration tests.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakeController:
    """Answers by method and path. Several answers to one call come in turn, and the last one stays."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    _answers: dict[tuple[str, str], list[tuple[int, Any]]] = field(default_factory=dict)

    def answer(self, method: str, path: str, document: Any, status: int = 200) -> None:
        """Queue an answer to a call below /api/v1."""
        self._answers.setdefault((method, f"/api/v1{path}"), []).append((status, document))

    def refuse(self, method: str, path: str, status: int, code: str, detail: str, pointer: str = "") -> None:
        """Queue a problem document."""
        errors = [{"pointer": pointer, "detail": detail}] if pointer else []
        problem = {"status": status, "code": code, "detail": detail, "errors": errors}
        self.answer(method, path, problem, status)

    def handle(self, received: Received) -> tuple[int, Any]:
        self.received.append(received)
        answers = self._answers.get((received.method, received.path))
        if not answers:
            return 404, {"code": "not_scripted", "detail": f"{received.method} {received.path} has no answer"}
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def fake_controller() -> Iterator[FakeController]:
    """Run a fake controller on a free port."""
    fake = FakeController()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            address = urlsplit(self.path)
            query = dict(parse_qsl(address.query))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, document = fake.handle(
                Received(self.command, address.path, query, headers, self.rfile.read(length))
            )
            content = b"" if document is None else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_words: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
