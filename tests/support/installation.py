"""A real installation of the controller as processes, in either wiring, which may be killed and started again."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from controller.cli.client import Client, Json, path_of
from tests.support.processes import Process, kill_family, start_tied
from tests.support.waiting import wait_until

PROGRAM = "controller.cli.main"
QUICK = {"EDGEFLEET_POLL_S": "0.2", "EDGEFLEET_SWEEP_S": "0.3", "EDGEFLEET_LEASE_S": "5"}
"""A test has no time for the patience of a fleet."""
READY_S = 120.0
FINAL = {"published", "refused", "failed"}


@dataclass(frozen=True)
class Wiring:
    """Which processes make up the controller, and the settings that tell them of each other."""

    settings: Mapping[str, str] = field(default_factory=dict)
    api_processes: int = 1
    workers: int = 0
    """Worker processes beside the server; the embedded wiring has its one inside it."""


def production(database_url: str, broker_url: str) -> Wiring:
    """Return the wiring of `docs/how-to/production.md`: two API processes and two workers."""
    urls = {"EDGEFLEET_DATABASE_URL": database_url, "EDGEFLEET_BROKER_URL": broker_url}
    # Ceremonies are another matter, and another test's.
    return Wiring({**urls, "EDGEFLEET_SINGLE_OPERATOR": "true"}, 2, 2)


class Installation:
    """One controller. It keeps its address and its state over all its starts."""

    def __init__(self, folder: Path, wiring: Wiring, settings: Mapping[str, str]) -> None:
        self.state_dir = folder / "controller"
        self.log = folder / "controller.log"
        self.url = ""
        self._wiring = wiring
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDGEFLEET_")}
        state = {"EDGEFLEET_STATE_DIR": str(self.state_dir)}
        self._environment = {**inherited, **QUICK, **wiring.settings, **state, **settings}
        self._processes: list[Process] = []

    @property
    def operator_token(self) -> str:
        """The token that lets the operator in."""
        return (self.state_dir / "operator.token").read_text().strip()

    @property
    def page(self) -> str:
        """The address of the first page, with what it takes to get in."""
        return f"{self.url}/?token={self.operator_token}"

    def start(self) -> None:
        """Start every process; return when the controller is ready."""
        port = self.url.rpartition(":")[2] or "0"
        workers = str(self._wiring.api_processes)
        self._start("server", "start", "--port", port, "--workers", workers)
        wait_until((self.state_dir / "server.json").exists, timeout_s=READY_S, what="the controller's address")
        self.url = json.loads((self.state_dir / "server.json").read_text())["url"]
        wait_until(self._is_ready, timeout_s=READY_S, what="the controller to be ready")
        for _ in range(self._wiring.workers):
            self._start("worker", "start")

    def kill(self) -> None:
        """Kill every process at once and without warning."""
        for process in self._processes:
            kill_family(process)
        self._processes.clear()

    def stop(self) -> None:
        """Ask every process to end, and wait until none is left."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                kill_family(process)
        self._processes.clear()

    def client(self) -> Client:
        """Open a client with the operator's token."""
        return Client(self.url, self.operator_token)

    def token(self) -> str:
        """Make a one-time enrolment token."""
        with self.client() as client:
            return str(client.post("/tokens", {"uses": 1})["token"])

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `edgefleet ARGUMENTS` as the operator would."""
        told = {"EDGEFLEET_SERVER": self.url, "EDGEFLEET_TOKEN": self.operator_token, "NO_COLOR": "1"}
        return subprocess.run(
            [sys.executable, "-m", PROGRAM, *arguments],
            env={**os.environ, **told, "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )

    def _start(self, *arguments: str) -> None:
        self._processes.append(start_tied(PROGRAM, *arguments, log=self.log, environment=self._environment))

    def _is_ready(self) -> bool:
        assert self._processes[0].poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).is_success
        except httpx.HTTPError:
            return False


@contextmanager
def an_installation(folder: Path, wiring: Wiring | None = None, **settings: str) -> Iterator[Installation]:
    """Run a controller, embedded unless another wiring is given; `settings` are environment variables."""
    folder.mkdir(parents=True, exist_ok=True)
    installation = Installation(folder, wiring or Wiring(), settings)
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()


def add_version(
    client: Client, model: str, file: Path, evaluation: Path | None = None, recipes: list[str] | None = None
) -> Json:
    """Upload a file as the model's next version; workers are not waited for."""
    body = {
        "artifact_sha256": client.upload(file)["sha256"],
        "evaluation_sha256": client.upload(evaluation)["sha256"] if evaluation else None,
        "format": "onnx" if file.suffix == ".onnx" else "opaque",
        "recipes": recipes,
    }
    return client.post(path_of("models", model, "versions"), body)


def wait_for_variants(client: Client, version: Json) -> Json:
    """Return the version once its variants have an end: published, refused or failed."""

    def final() -> Json:
        found = client.get(path_of("models", version["model"], "versions", version["number"]))
        return found if {variant["state"] for variant in found["variants"]} <= FINAL else {}

    what = f"the variants of {version['model']} version {version['number']}"
    return wait_until(final, timeout_s=READY_S, what=what, every_s=0.2)


def wait_for_end(client: Client, rollout: Json) -> Json:
    """Return the rollout once it has ended, well or not."""

    def ended() -> Json:
        found = client.get(path_of("rollouts", rollout["id"]))
        return found if found["state"] in {"succeeded", "aborted"} else {}

    return wait_until(ended, timeout_s=READY_S, what="the end of the rollout", every_s=0.2)
