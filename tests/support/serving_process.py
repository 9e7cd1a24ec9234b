"""A real inference process for tests, with clients for both of its sockets."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.onnx_models import MAIN_FILE
from tests.support.waiting import wait_until


class Answer(NamedTuple):
    status: int
    json: dict[str, Any]


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def call(connection: http.client.HTTPConnection, method: str, path: str, document: object = None) -> Answer:
    """Send one request on an open connection; bytes go as they are, anything else as JSON."""
    body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
    connection.request(method, path, body=body)
    response = connection.getresponse()
    return Answer(response.status, json.loads(response.read()))


class ServingProcess:
    """The process, its store of models and its sockets."""

    def __init__(self, state: Path) -> None:
        self.store = state / "models"
        self.store.mkdir(exist_ok=True)
        self.socket_path = state / "serving.sock"
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "device_agent.serving", "--listen", "127.0.0.1:0"),
                *("--control", self.socket_path, "--store", self.store),
            ]
        )

    def control(self, method: str, path: str, document: object = None) -> Answer:
        """Call a control endpoint on a connection of its own."""
        with contextlib.closing(UnixConnection(self.socket_path)) as connection:
            return call(connection, method, path, document)

    def status(self) -> dict[str, Any]:
        """Return the control status."""
        return self.control("GET", "/control/status").json

    def load(self, directory: Path, digest: str, *, version: int, slot: str = "digits") -> Answer:
        """Order a model directory into a slot."""
        order = {"slot": slot, "version": str(version), "manifest": digest, "directory": str(directory)}
        return self.control("POST", "/control/load", {**order, "main": MAIN_FILE})

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection to the public address."""
        host, _, port = self.status()["address"].rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=60)

    def call(self, method: str, path: str, document: object = None) -> Answer:
        """Call the public address on a connection of its own."""
        with contextlib.closing(self.connect()) as connection:
            return call(connection, method, path, document)


@contextlib.contextmanager
def serving_process(state: Path) -> Iterator[ServingProcess]:
    """Run the inference process with its state in a directory; it answers when the block begins."""
    serving = ServingProcess(state)
    try:
        wait_until(
            lambda: serving.socket_path.exists() or serving.process.poll() is not None, what="the control socket"
        )
        yield serving
    finally:
        serving.process.kill()
        serving.process.wait()
