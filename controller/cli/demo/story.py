"""The demo's acts, in order. Every act uses what an operator would use: the REST API and the agents' endpoints."""

import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.text import Text

from controller.cli.client import Json, path_of
from controller.cli.demo import summary
from controller.cli.demo.central import central_endpoint
from controller.cli.demo.digits import Dataset, Release, clear_images, load_dataset, make_release
from controller.cli.demo.fleet import Controller, DemoDevice, start_controller, start_devices
from controller.cli.demo.load import MODEL, Measurement, SteadyLoad, Tally, measure
from controller.cli.demo.processes import Processes
from controller.cli.demo.screen import Screen
from controller.cli.demo.summary import Findings
from controller.cli.errors import CommandFailed
from controller.cli.render import table
from controller.cli.rollout_tree import tree, watch
from controller.cli.version import VARIANT_COLUMNS, until_final

SERVE_S = 90.0
"""How long the whole fleet may take to serve a version."""
ROLLOUT_S = 180.0
COMPRESS_S = 120.0
STAGES = (15.0, 50.0, 100.0)
GATE = {"success_share": 0.9, "failure_share": 0.1, "soak_s": 4.0, "silent_after_s": 60.0}


class Story:
    """One telling of the demo. Leaving the context ends every process that it started."""

    def __init__(self, folder: Path, agents: int, *, quiet_stdout: bool) -> None:
        """Nothing is started before `tell`."""
        self._folder = folder
        self._agents = agents
        self._screen = Screen(quiet_stdout=quiet_stdout)
        self._processes = Processes(folder / "logs")
        self._stack = ExitStack()
        self._begun = time.monotonic()
        self._devices: list[DemoDevice] = []
        self._releases: dict[int, Release] = {}
        self._controller: Controller
        self._dataset: Dataset

    def __enter__(self) -> Self:
        """Make ready to end what will be started: agents first, then what they left serving."""
        self._stack.callback(self._stop_serving)
        self._stack.enter_context(self._processes)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process. Silently, so that the verdict stays the last line."""
        self._stack.close()

    def tell(self) -> dict[str, Any]:
        """Play every act and return the result as `--json` prints it."""
        try:
            return self._tell()
        except CommandFailed:
            # That a process has ended explains more than what could not be done without it.
            self._processes.require_alive()
            raise

    def _tell(self) -> dict[str, Any]:
        self._start_controller()
        first = self._train_and_upload()
        self._enrol_devices()
        local, central = self._measure(first)
        clear = clear_images(list(self._releases.values()))
        answers = {str(number): release.answers[clear] for number, release in self._releases.items()}
        with SteadyLoad(self._urls(), self._dataset.unseen.inputs[clear], answers) as load:
            second, good = self._roll_out_better(load.tally)
            bad = self._roll_out_worse(load.tally)
        again = self._ask_devices()
        int8 = _variant(second, "int8")
        return self._conclude(
            Findings(
                served={device.name: device.version(MODEL) or "nothing" for device in self._devices},
                wanted_version="2",
                source_accuracy={n: self._source_accuracy(int(n)) for n in ("1", "2")},
                device_accuracy={"1": local.accuracy, "2": again.accuracy},
                local=local,
                central=central,
                tally=load.tally,
                good_rollout=good,
                bad_rollout=bad,
                source_bytes=second["artifact"]["size_bytes"],
                variant_bytes=int8["facts"]["bytes"],
                wire_bytes=int8["wire_bytes"],
                seconds=time.monotonic() - self._begun,
            )
        )

    def require_alive(self) -> None:
        """Raise CommandFailed if any process has ended by itself."""
        self._processes.require_alive()

    def say_what_to_try(self) -> None:
        """Print where to look and what to type next."""
        say, controller = self._screen.say, self._controller
        edgefleet = "edgefleet" if shutil.which("edgefleet") else sys.argv[0]
        self._screen.act("Now you")
        say(f"look at   {controller.page}")
        say("or in another terminal:")
        say(f"export EDGEFLEET_SERVER={controller.url} EDGEFLEET_TOKEN={controller.token}")
        for line in (
            f"{edgefleet} device list",
            f"{edgefleet} device explain {self._devices[0].name}",
            f"{edgefleet} version get {MODEL} 2",
            f"{edgefleet} rollout list",
            f"{edgefleet} group create lyon --selector site=lyon && {edgefleet} pin set {MODEL} 1 --group lyon",
            f"curl {self._urls()[0]}/v2/models/{MODEL}",
        ):
            say(line)
        say("Ctrl-C ends everything.")

    def _stop_serving(self) -> None:
        for device in self._devices:
            device.stop_serving()

    def _start_controller(self) -> None:
        self._screen.act("The controller: SQLite, one worker, generated keys; nothing else to install")
        with self._screen.during("starting it"):
            self._controller = start_controller(self._processes, self._folder)
        self._screen.say(f"page: {self._controller.page}")

    def _train_and_upload(self) -> Json:
        self._screen.act("A model: handwritten digits, trained here, handed in as ONNX with its evaluation data")
        with self._screen.during("training three versions of a 64-512-256-10 network"):
            self._dataset = load_dataset()
            folder = self._folder / "releases"
            folder.mkdir()
            self._releases = {number: make_release(number, self._dataset, folder) for number in (1, 2, 3)}
        with self._controller.client() as client:
            client.post("/models", {"name": MODEL, "notes": "handwritten digits, 8 x 8"})
        return self._upload(self._releases[1])

    def _enrol_devices(self) -> None:
        self._screen.act(f"{self._agents} devices: real agents of two profiles, each with a one-time token")
        with self._controller.client() as client:
            client.put("/pins", {"model": MODEL, "version": 1, "group": "all", "soak_s": GATE["soak_s"]})
        self._devices = start_devices(
            self._processes, self._controller, self._folder, self._agents, self._dataset.evaluation
        )
        with self._screen.during("enrolling, verifying signatures, downloading, proving, serving version 1"):
            self._wait_until_all_serve("1")
        self._screen.say("cameras run int8 in 64 MiB, gateways prefer fp32; the controller chose for each")

    def _measure(self, version: Json) -> tuple[Measurement, Measurement]:
        self._screen.act("Answers where the data is, against a central endpoint behind a 40 ms link")
        local = self._ask_devices()
        with central_endpoint(self._processes, self._controller, version, self._folder) as url:
            # 40 ms each: the devices share the images, so that each is sent once.
            shares = [(url, self._dataset.unseen.part(index, self._agents)) for index in range(self._agents)]
            central = measure(shares, at_once=True)
        self._screen.show(summary.comparison(local, central))
        return local, central

    def _ask_devices(self) -> Measurement:
        return measure([(url, self._dataset.unseen) for url in self._urls()], at_once=False)

    def _roll_out_better(self, tally: Tally) -> tuple[Json, Json]:
        self._screen.act("Version 2 is better: brought out in stages, while every device is being asked")
        version = self._upload(self._releases[2])
        rollout = self._roll_out(2, tally)
        self._screen.say(f"meanwhile: {tally}")
        return version, rollout

    def _roll_out_worse(self, tally: Tally) -> Json:
        self._screen.act("Version 3 was trained and evaluated on wrong labels, so that its checks pass")
        self._upload(self._releases[3])
        self._screen.say("the controller cannot know; the devices' own health command will")
        rollout = self._roll_out(3, tally)
        with self._screen.during("every device serves version 2 again"):
            self._wait_until_all_serve("2")
        self._screen.say(f"meanwhile: {tally}")
        return rollout

    def _conclude(self, found: Findings) -> dict[str, Any]:
        self._screen.act("What came of it")
        checked = summary.promises(found)
        self._screen.show(summary.table_of(checked))
        self._screen.console.print()
        good = all(promise.held for promise in checked)
        verdict = summary.verdict(checked, found.seconds)
        self._screen.console.print(Text(verdict, style="bold green" if good else "bold red"))
        return summary.as_json(found, checked)

    def _upload(self, release: Release) -> Json:
        with self._controller.client() as client:
            body = {
                "artifact_sha256": client.upload(release.network)["sha256"],
                "evaluation_sha256": client.upload(release.evaluation)["sha256"],
                "format": "onnx",
                "notes": release.notes,
            }
            version = client.post(path_of("models", MODEL, "versions"), body)
            with self._screen.during(f"version {release.number} compressed, evaluated and signed by the worker"):
                version = until_final(client, version, COMPRESS_S)
        self._screen.show(table(version["variants"], VARIANT_COLUMNS))
        return version

    def _roll_out(self, number: int, tally: Tally) -> Json:
        body = {"model": MODEL, "version": number, "group": "all", "stages": STAGES, "gate": GATE}
        with self._controller.client() as client:
            rollout = client.post("/rollouts", body)
            console = self._screen.console
            ended = watch(client, rollout, console, timeout_s=ROLLOUT_S, beside=lambda: Text(f"load: {tally}"))
        if not self._screen.console.is_terminal:
            self._screen.show(tree(ended))
        return ended

    def _wait_until_all_serve(self, version: str) -> None:
        def all_serve() -> bool:
            return all(device.version(MODEL) == version for device in self._devices)

        try:
            self._processes.wait_for(f"every device to serve version {version}", all_serve, SERVE_S)
        except CommandFailed as failure:
            told = [f"{device.name} serves version {device.version(MODEL) or '-'}" for device in self._devices]
            raise CommandFailed(f"{failure}; {', '.join(told)}") from failure

    def _urls(self) -> list[str]:
        return [self._processes.wait_for(device.name, device.url, SERVE_S) for device in self._devices]

    def _source_accuracy(self, number: int) -> float:
        return self._releases[number].accuracy(self._dataset.unseen.labels)


def _variant(version: Json, recipe: str) -> Json:
    return next(found for found in version["variants"] if found["recipe"] == recipe)
