"""What goes on when parts are killed without warning. Killed workers: tests/integration/controller/worker."""

from pathlib import Path

import numpy as np
import pytest

from controller.cli.client import Client, Json
from controller.cli.errors import CommandFailed
from device_agent.protocol.manifest import CHUNK_BYTES
from tests.support.agents import Reached
from tests.support.background_load import BackgroundLoad
from tests.support.digits import linear_classifier
from tests.support.installation import Installation, add_version, wait_for_end, wait_for_variants
from tests.support.metered_link import MeteredLink
from tests.support.onnx_models import linear_model, linear_weights
from tests.support.running_fleet import RunningFleet, a_fleet
from tests.support.services import Redis
from tests.support.waiting import wait_until

ROW = [1.0, -0.5, 2.0, 0.25]
EXPECTED = {str(number): (np.array(ROW) @ linear_weights() + number).tolist() for number in (1, 2)}
LARGE_FEATURES = 1024
LARGE_CLASSES = 1024
LARGE_BYTES = 4 * LARGE_FEATURES * LARGE_CLASSES
METADATA_BYTES = 400_000
"""More than polls and signed metadata take on the link in the meantime, and far less than half of the artifact."""


def publish(client: Client, folder: Path, numbers: range) -> None:
    """Publish versions whose scores differ by their number."""
    client.post("/models", {"name": "digits"})
    added = []
    for number in numbers:
        file = folder / f"digits-{number}.onnx"
        linear_model(file, bias=number)
        added.append(add_version(client, "digits", file, recipes=["fp32"]))
    for version in added:
        assert wait_for_variants(client, version)["state"] == "ready"


def publish_large(client: Client, folder: Path) -> None:
    """Publish a large model whose weights hardly become smaller when they are packed."""
    client.post("/models", {"name": "large"})
    file = folder / "large.onnx"
    weights = np.random.default_rng(5).normal(size=(LARGE_FEATURES, LARGE_CLASSES)).astype(np.float32)
    linear_classifier(file, weights, np.zeros(LARGE_CLASSES, np.float32))
    assert wait_for_variants(client, add_version(client, "large", file, recipes=["fp32"]))["state"] == "ready"


def pin(client: Client, model: str = "digits") -> None:
    client.put("/pins", {"model": model, "version": 1, "group": "all", "soak_s": 0})


def test_a_controller_killed_in_mid_rollout_goes_on_with_it_after_its_restart(
    embedded: Installation, tmp_path: Path
) -> None:
    devices = {"device-1": "fp32", "device-2": "fp32"}
    with embedded.client() as client, a_fleet(embedded, tmp_path, devices) as fleet:
        publish(client, tmp_path, range(1, 3))
        pin(client)
        fleet.wait_for_version("1")
        with BackgroundLoad(fleet.urls(), ROW, EXPECTED) as load:
            rollout = start_rollout(client)
            wait_until(lambda: "2" in fleet.versions().values(), what="the first device to take version 2")
            embedded.kill()
            with pytest.raises(CommandFailed, match="nothing answers"):
                client.get("/overview")
            assert sorted(fleet.versions().values()) == ["1", "2"]
            embedded.start()
            ended = wait_for_end(client, rollout)
        assert (ended["state"], ended["counts"]["healthy"]) == ("succeeded", 2), ended
        assert set(fleet.versions().values()) == {"2"}
        assert (load.failed, load.wrong) == ([], [])


def start_rollout(client: Client) -> Json:
    gate = {"success_share": 0.9, "failure_share": 0.1, "soak_s": 3.0, "silent_after_s": 60.0}
    return client.post("/rollouts", {"model": "digits", "version": 2, "stages": [50, 100], "gate": gate})


def test_an_agent_killed_in_mid_download_serves_on_and_its_successor_fetches_only_the_rest(
    embedded: Installation, tmp_path: Path
) -> None:
    with embedded.client() as client, MeteredLink(embedded.url) as link:
        publish(client, tmp_path, range(1, 2))
        publish_large(client, tmp_path)
        pin(client)
        with a_fleet(Reached(link.url, embedded.token), tmp_path, {"device": "fp32"}) as fleet:
            fleet.wait_for_version("1")
            with BackgroundLoad(fleet.urls(), ROW, EXPECTED) as load:
                fetched, carried = interrupt_the_download(client, link, fleet)
            assert fetched > LARGE_BYTES / 4
            assert carried < LARGE_BYTES - fetched + METADATA_BYTES
            assert (load.failed, load.wrong) == ([], [])


def interrupt_the_download(client: Client, link: MeteredLink, fleet: RunningFleet) -> tuple[int, int]:
    """Return how many bytes were fetched when the agent was killed, and how many its successor had the link carry."""
    agent = fleet.agents["device"]
    serving = agent.serving()
    link.hold_after(LARGE_BYTES // 2)
    pin(client, "large")
    # What the link has carried, the agent reads a moment later.
    wait_until(lambda: link.is_held() and bytes_of_parts(agent.state) > LARGE_BYTES / 4, what="half of the artifact")
    agent.kill()
    fetched, before = bytes_of_parts(agent.state), link.carried_bytes
    link.open()
    assert fleet.versions() == {"device": "1"}
    agent.start()
    wait_until(lambda: "large" in slots_reported(client), timeout_s=120, what="the large model to be served")
    assert (agent.serving()["pid"], agent.serving()["url"]) == (serving["pid"], serving["url"])
    return fetched, link.carried_bytes - before


def bytes_of_parts(state: Path) -> int:
    whole_chunks = [part.stat().st_size // CHUNK_BYTES for part in state.rglob("*.part")]
    return sum(whole_chunks) * CHUNK_BYTES


def slots_reported(client: Client) -> set[str]:
    [device] = client.items("/devices")["items"]
    return {slot["slot"] for slot in device["slots"] if slot["state"] == "healthy"}


@pytest.mark.postgres
def test_work_that_was_asked_for_while_redis_was_down_is_done_when_it_is_back(
    on_servers: Installation, redis_server: Redis, tmp_path: Path
) -> None:
    artifact = tmp_path / "engine.bin"
    artifact.write_bytes(b"engine")
    with on_servers.client() as client:
        client.post("/models", {"name": "engine"})
        redis_server.kill()
        try:
            version = add_version(client, "engine", artifact)
            assert version["state"] == "processing"
        finally:
            redis_server.start_again()
        assert wait_for_variants(client, version)["state"] == "ready"
