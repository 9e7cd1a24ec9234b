"""The application, served over HTTP: in a thread where a test looks inside, in a process where one is killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.types import ASGIApp

from controller.api.app import create_app
from controller.settings import Settings
from controller.wiring import Services, build
from tests.support.waiting import wait_until


def services_at(state_dir: Path, database_url: str) -> Services:
    """Return the services of one process, with an engine of its own."""
    return build(Settings(state_dir=state_dir, database_url=database_url))


def app_from_environment() -> ASGIApp:
    """Return the application of a server process."""
    return create_app(services_at(Path(os.environ["TEST_STATE_DIR"]), os.environ["TEST_DATABASE_URL"]))


@contextmanager
def serving(app: ASGIApp) -> Iterator[httpx.Client]:
    """Serve in a thread of this process; yield a client for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="on", proxy_headers=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), what="the server", every_s=0.01)
            with httpx.Client(base_url=_url(listening)) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


class ServerProcess:
    """A server process of its own. It may be killed, and started again at the same address."""

    def __init__(self, state_dir: Path, database_url: str, app: str = f"{__name__}:app_from_environment") -> None:
        """Take an address; nothing runs yet. `app` names a function that returns the application."""
        self._app = app
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._environment = {"TEST_STATE_DIR": str(state_dir), "TEST_DATABASE_URL": database_url}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = _url(self._listening)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._listening.close()

    def start(self) -> None:
        """Start, and wait until it answers."""
        descriptor = self._listening.fileno()
        options = ["--factory", "--fd", str(descriptor), "--log-level", "error", "--no-access-log"]
        self._process = process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", self._app, *options],
            env={**os.environ, **self._environment},
            pass_fds=[descriptor],
        )

        def answers() -> bool:
            assert process.poll() is None
            try:
                return httpx.get(f"{self.url}/device/v1/challenge", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        wait_until(answers, what="the server process")

    def kill(self) -> None:
        """End it as a loss of power would."""
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _url(listening: socket.socket) -> str:
    return f"http://127.0.0.1:{listening.getsockname()[1]}"
