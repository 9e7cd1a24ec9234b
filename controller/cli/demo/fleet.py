"""The controller and the devices of the demo: real programs, each with a folder and a log of its own."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from controller.cli.client import Client
from controller.cli.demo import health_command
from controller.cli.demo.digits import Samples
from controller.cli.demo.processes import Processes

START_S = 60.0
POLL_S = 0.4
SOCKET = "serving.sock"
LABELLED_DIGITS = 50
"""How many labelled digits the operator keeps beside the devices for the health command."""

CONTROLLER_ENVIRONMENT = {"EDGEFLEET_POLL_S": str(POLL_S), "EDGEFLEET_SWEEP_S": "0.4"}


@dataclass(frozen=True)
class Profile:
    """A class of machines in the demo."""

    name: str
    precisions: tuple[str, ...]
    memory_mib: int


PROFILES = (Profile("camera", ("int8",), 64), Profile("gateway", ("fp32", "int8"), 512))

AGENT_CONFIG = """\
controller_url = "{url}"
state_dir = "{state_dir}"
name = "{name}"
enrolment_token = "{token}"
channel = "dev"

[labels]
site = "{site}"

[profile]
name = "{profile.name}"
precisions = {precisions}
memory_bytes = {memory_bytes}

[inference]
listen = "127.0.0.1:0"

[health]
command = {command}
interval_s = 2.0

# A demo has no time for the patience of a fleet.
[polling]
interval_s = {poll_s}
minimum_s = 0.1
first_poll_spread_s = 0.5
retry_base_s = 0.2

[reports]
interval_s = 5.0
"""


@dataclass(frozen=True)
class Controller:
    """The running controller and how to speak to it."""

    url: str
    token: str

    @property
    def page(self) -> str:
        """The address of the first page, with what it takes to get in."""
        return f"{self.url}/?token={self.token}"

    def client(self) -> Client:
        """Open a client with the operator's token."""
        return Client(self.url, self.token)


@dataclass(frozen=True)
class DemoDevice:
    """One device of the demo."""

    name: str
    profile: Profile
    state_dir: Path

    def status(self) -> dict[str, object] | None:
        """Return what the device's serving process says of itself, None while there is none."""
        try:
            with serving_control(self.state_dir) as control:
                answer: dict[str, object] = control.get("/control/status").raise_for_status().json()
        except httpx.HTTPError:
            return None
        return answer

    def url(self) -> str | None:
        """Return the base URL of the device's inference endpoint, None while it has none."""
        status = self.status()
        return f"http://{status['address']}" if status else None

    def version(self, model: str) -> str | None:
        """Return the version of the model that the device serves at this moment."""
        status = self.status()
        slots = status["slots"] if status else {}
        assert isinstance(slots, dict)
        return str(slots[model]["version"]) if model in slots else None

    def stop_serving(self) -> None:
        """End the serving process, which by design outlives its agent."""
        try:
            with serving_control(self.state_dir) as control:
                control.post("/control/stop", json={})
        except httpx.HTTPError:
            return


def serving_control(directory: Path) -> httpx.Client:
    """Open a client of the serving process that works in this folder.

    The address of a Unix socket holds about a hundred bytes: the folder is best relative, wherever the demo runs.
    """
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(directory / SOCKET)), base_url="http://device")


def start_controller(processes: Processes, folder: Path) -> Controller:
    """Start the controller on a free port and wait until it is ready."""
    state_dir = (folder / "controller").resolve()
    arguments = ("server", "start", "--port", "0", "--state-dir", str(state_dir))
    program = "controller.cli.main"
    processes.start("controller", program, *arguments, environment=CONTROLLER_ENVIRONMENT, directory=folder)
    announcement = state_dir / "server.json"
    processes.wait_for("the controller to start", announcement.exists, START_S)
    url = json.loads(announcement.read_text())["url"]
    processes.wait_for("the controller to be ready", lambda: _is_ready(url), START_S)
    return Controller(url, (state_dir / "operator.token").read_text().strip())


def start_devices(
    processes: Processes, controller: Controller, folder: Path, count: int, labelled: Samples
) -> list[DemoDevice]:
    """Start the agents, half of them cameras and half gateways, each with its own one-time token."""
    command = _write_health_command(folder, labelled)
    devices = []
    with controller.client() as client:
        for index in range(count):
            profile = PROFILES[index % len(PROFILES)]
            name = f"{profile.name}-{index // len(PROFILES) + 1}"
            token = client.post("/tokens", {"labels": {}, "uses": 1, "ttl_s": 3600})["token"]
            home = (folder / "devices" / name).resolve()
            home.mkdir(parents=True)
            config = home / "agent.toml"
            config.write_text(
                AGENT_CONFIG.format(
                    url=controller.url,
                    state_dir=home / "state",
                    name=name,
                    token=token,
                    site=("lyon", "turin")[index * 2 // count],
                    profile=profile,
                    precisions=json.dumps(profile.precisions),
                    memory_bytes=profile.memory_mib * 1024**2,
                    command=json.dumps(command),
                    poll_s=POLL_S,
                )
            )
            processes.start(name, "device_agent", "run", "--config", str(config), environment={}, directory=home)
            devices.append(DemoDevice(name, profile, folder / "devices" / name / "state"))
    return devices


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0).is_success
    except httpx.HTTPError:
        return False


def _write_health_command(folder: Path, labelled: Samples) -> list[str]:
    program = (folder / "health_command.py").resolve()
    digits = (folder / "labelled_digits.json").resolve()
    shutil.copy(health_command.__file__, program)
    some = labelled.first(LABELLED_DIGITS)
    digits.write_text(json.dumps({"inputs": some.inputs.ravel().tolist(), "labels": some.labels.tolist()}))
    # Without site packages Python starts in a fraction of the time, and the command needs none.
    return [sys.executable, "-I", "-S", str(program), str(digits)]
