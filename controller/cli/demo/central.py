"""The other way to do it: one central endpoint, the same serving program with the uncompressed model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from controller.cli.client import Json
from controller.cli.demo.fleet import SOCKET, Controller, serving_control
from controller.cli.demo.link import DelayedLink
from controller.cli.demo.load import MODEL
from controller.cli.demo.processes import Processes

ROUND_TRIP_S = 0.040
START_S = 60.0


@contextmanager
def central_endpoint(processes: Processes, controller: Controller, version: Json, folder: Path) -> Iterator[str]:
    """Serve the version's fp32 variant behind a link with a 40 ms round trip; give the endpoint's URL."""
    variant = next(found for found in version["variants"] if found["recipe"] == "fp32")
    home = folder / "central"
    store = (home / "models").resolve()
    model, main = _fetch(controller, version, variant["manifest_sha256"], store)
    arguments = ("--listen", "127.0.0.1:0", "--control", SOCKET, "--store", str(store))
    process = processes.start("central", "device_agent.serving", *arguments, environment={}, directory=home)
    processes.wait_for("the central endpoint", (home / SOCKET).exists, START_S)
    with serving_control(home) as control:
        load = {
            "slot": MODEL,
            "version": str(version["number"]),
            "manifest": variant["manifest_sha256"],
            "directory": str(model),
            "main": main,
        }
        control.post("/control/load", json=load, timeout=START_S).raise_for_status()
        address = control.get("/control/status").raise_for_status().json()["address"]
        with DelayedLink(int(address.rpartition(":")[2]), ROUND_TRIP_S) as link:
            yield link.url
    processes.stop(process)


def _fetch(controller: Controller, version: Json, manifest_sha256: str, store: Path) -> tuple[Path, str]:
    model = store / manifest_sha256
    model.mkdir(parents=True)
    target = f"/tuf/targets/dev/{version['model']}/{version['number']}/fp32/{manifest_sha256}.manifest.json"
    with httpx.Client(base_url=controller.url) as http:
        manifest = http.get(target).raise_for_status()
        (model / "manifest.json").write_bytes(manifest.content)
        for artifact in manifest.json()["artifacts"]:
            content = http.get(f"/artifacts/sha256/{artifact['sha256']}").raise_for_status().content
            (model / artifact["name"]).write_bytes(content)
    return model, str(manifest.json()["main"])
