"""Real agents for tests: a state directory, a settings file, and the process, which may be killed and started again."""

import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Protocol

from device_agent.agent import Agent
from device_agent.clock import DeviceClock
from device_agent.controller_client import ControllerClient
from device_agent.enrolment import obtain_identity
from device_agent.profile_detection import detect_profile
from device_agent.protocol.channels import Channel
from device_agent.protocol.manifest import parse_manifest
from device_agent.settings import load_settings
from device_agent.status import read_status
from device_agent.stopping import StopSignal
from device_agent.transport import Transport
from device_agent.wiring import build_parts
from tests.support.device_api import DeviceApi
from tests.support.onnx_models import model_directory
from tests.support.processes import Process, start_tied
from tests.support.signed_repository import Clock, Release
from tests.support.waiting import wait_until

SETTINGS = """
controller_url = "{url}"
state_dir = "{state}"
name = "{name}"
enrolment_token_file = "{token}"
channel = "dev"
[labels]
site = "test"
[profile]
name = "bench"
precisions = ["{precision}"]
memory_bytes = 268435456
[inference]
listen = "127.0.0.1:0"
[polling]
interval_s = 0.1
minimum_s = 0.1
first_poll_spread_s = 0
retry_base_s = 0.05
retry_cap_s = 0.2
[reports]
interval_s = 0.3
[download]
tries = 5
reserve_bytes = 0
"""


def publish_model(api: DeviceApi, work: Path, version: int, *, model: str = "digits", **changes: Any) -> Release:
    """Make a small real model, put its artifacts up and sign its manifest; no two share an artifact."""
    bias = version + sum(model.encode()) / 1000
    directory, _ = model_directory(work / f"source-{model}", version=version, bias=bias)
    manifest = replace(parse_manifest((directory / "manifest.json").read_bytes()), model=model)
    for entry in manifest.artifacts:
        api.artifacts[entry.sha256] = (directory / entry.name).read_bytes()
    return api.images.publish(manifest, **changes)


class Controller(Protocol):
    """What an agent needs to become a device: an address, and a one-time token of it."""

    url: str

    def token(self) -> str: ...


@dataclass
class Reached:
    """A controller as an agent reaches it: over another address, or with a token of the test's choice."""

    url: str
    token: Callable[[], str]


class AgentProcess:
    """One device. Its serving process is a process of its own and may outlive the agent."""

    def __init__(
        self,
        api: Controller,
        directory: Path,
        extra: str = "",
        *,
        name: str = "agent-1",
        precision: str = "fp32",
        top: str = "",
    ) -> None:
        """`extra` is put at the end of the settings, for tables; `top` at the beginning, for fields of no table."""
        self.name = name
        self.state = directory / "agent"
        self.config = directory / "agent.toml"
        token = directory / "token"
        token.write_text(api.token())
        text = SETTINGS.format(url=api.url, state=self.state, token=token, name=name, precision=precision)
        self.config.write_text(top + text + extra)
        self.log = directory / "agent.log"
        self.process: Process | None = None

    def start(self) -> None:
        """Start the agent."""
        self.process = start_tied("device_agent", "run", "--config", str(self.config), log=self.log)

    def kill(self) -> None:
        """Take the agent away without warning."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask the agent to stop; return its exit status."""
        assert self.process
        self.process.terminate()
        return self.process.wait(60)

    def status(self) -> dict[str, Any]:
        """Return what `edgefleet-agent status --json` shows."""
        return read_status(load_settings(self.config, {}))

    def serving(self) -> dict[str, Any]:
        """Return the serving process's status; empty while it is down."""
        return self.status()["serving"] or {}

    def answer_version(self, slot: str = "digits") -> str:
        """Ask the local endpoint and return the version that answered."""
        url = f"{self.serving()['url']}/v2/models/{slot}/infer"
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.0, 0.0, 0.0, 0.0]}
        body = json.dumps({"inputs": [tensor]}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
            return str(json.loads(answer.read())["model_version"])

    def end(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process and self.process.poll() is None:
            # Asked, not killed: it may be about to start the serving process, which would outlive the test.
            self.stop()
        serving = self.serving()
        if serving:
            os.kill(serving["pid"], signal.SIGKILL)


class AgentThread(AgentProcess):
    """One device in this process, with a clock of its own. It can be stopped and started again, and not be killed."""

    def __init__(self, api: Controller, directory: Path, wall: Clock, top: str = "") -> None:
        super().__init__(api, directory, top=top)
        self.wall = wall
        self._stop = StopSignal()
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        """Start the agent."""
        self._stop.close()
        self._stop = StopSignal()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> int:
        """Ask the agent to stop."""
        self._stop.set()
        self._thread.join(60)
        return 0

    def end(self) -> None:
        """Leave nothing behind."""
        if self._thread.is_alive():
            self.stop()
        self._stop.close()

    def _run(self) -> None:
        settings, random, transport = load_settings(self.config, {}), Random(), Transport()
        settings.state_dir.mkdir(exist_ok=True)
        stated = settings.profile
        channel = Channel(settings.channel)
        profile = detect_profile(stated.name, stated.precisions, stated.memory_bytes, stated.threads, channel)
        client = ControllerClient(transport, settings.controller_url)
        identity = obtain_identity(settings, profile, client, random=random, stop=self._stop)
        if identity:
            clock = DeviceClock(self.wall)
            Agent(build_parts(settings, identity, profile, transport, random, clock)).run(self._stop)


@contextmanager
def an_agent_with_a_clock(api: DeviceApi, directory: Path, wall: Clock, top: str = "") -> Iterator[AgentThread]:
    """Run an agent in this process; the block begins once the controller knows it."""
    agent = AgentThread(api, directory, wall, top)
    try:
        agent.start()
        wait_until(lambda: api.device, what="the enrolment")
        yield agent
    finally:
        agent.end()


@contextmanager
def an_agent(
    api: DeviceApi, directory: Path, extra: str = "", *, enrolled: bool = True, top: str = ""
) -> Iterator[AgentProcess]:
    """Run an agent; with `enrolled`, the block begins once the controller knows it."""
    agent = AgentProcess(api, directory, extra, top=top)
    try:
        agent.start()
        if enrolled:
            wait_until(lambda: api.device, what="the enrolment")
        yield agent
    except BaseException:
        sys.stderr.write(agent.log.read_text())
        raise
    finally:
        agent.end()
