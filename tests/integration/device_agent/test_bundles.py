"""Assignments of several slots: all of what they change is verified, fetched, proven and begun together, or nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from device_agent.protocol.assignment import SlotAssignment
from tests.support.agents import AgentProcess, an_agent, publish_model
from tests.support.attacks import Group, plays
from tests.support.device_api import DeviceApi
from tests.support.onnx_models import artifact_entry
from tests.support.signed_repository import Release
from tests.support.waiting import wait_until


def states(api: DeviceApi, counter: int, slot: str) -> list[str]:
    return [item["state"] for item in api.items() if (item["counter"], item["slot"]) == (counter, slot)]


def wait_for(api: DeviceApi, counter: int, slot: str, state: str) -> None:
    wait_until(lambda: state in states(api, counter, slot), what=f"{slot} to be {state}")


def failure_codes(api: DeviceApi, counter: int) -> dict[str, set[str]]:
    codes: dict[str, set[str]] = {}
    for item in api.items():
        if item["counter"] == counter and item["state"] == "failed":
            codes.setdefault(item["slot"], set()).add(item["code"])
    return codes


def active(agent: AgentProcess) -> dict[str, str | None]:
    return {name: slot["active"] for name, slot in agent.status()["slots"].items()}


def make_healthy(api: DeviceApi, **slots: SlotAssignment) -> None:
    counter = api.assign({**slots})
    for slot in slots:
        wait_for(api, counter, slot, "healthy")


def two(api: DeviceApi, work: Path, version: int) -> tuple[Release, Release]:
    return publish_model(api, work, version), publish_model(api, work, version, model="doors")


def test_slots_of_one_assignment_are_verified_before_either_is_fetched_and_end_up_healthy(
    api: DeviceApi, tmp_path: Path
) -> None:
    digits, doors = two(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, digits=digits.assigned(), doors=doors.assigned())
        paths = api.paths("/")
        first_artifact = next(i for i, path in enumerate(paths) if path.startswith("/artifacts/"))
        assert sum("/tuf/targets/" in path for path in paths[:first_artifact]) == 2
        assert agent.answer_version("digits") == agent.answer_version("doors") == "1"


@plays(Group.MIX, "one slot of two is blocked: none of the two is fetched or activated", "E_PARTIAL_BUNDLE")
def test_one_slot_blocked_means_no_slot_is_fetched_or_activated_until_it_is_free(
    api: DeviceApi, tmp_path: Path
) -> None:
    old, doors = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2, model="doors")
    new = publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, digits=old.assigned())
        fetched = len(api.paths("/artifacts/"))
        api.images.withdraw(doors)
        counter = api.assign({"digits": new.assigned(), "doors": doors.assigned()})
        wait_until(lambda: len(failure_codes(api, counter)) == 2, what="both slots to give up")
        assert failure_codes(api, counter) == {"digits": {"E_PARTIAL_BUNDLE"}, "doors": {"E_NOT_IN_IMAGE_REPO"}}
        told = next(item["message"] for item in api.items() if item["code"] == "E_PARTIAL_BUNDLE")
        assert "slot doors of the same assignment: E_NOT_IN_IMAGE_REPO" in told
        assert len(api.paths("/artifacts/")) == fetched
        assert active(agent) == {"digits": old.sha256, "doors": None}
        assert agent.answer_version() == "1"
        api.images.publish(doors.manifest)
        wait_for(api, counter, "digits", "healthy")
        wait_for(api, counter, "doors", "healthy")
        assert active(agent) == {"digits": new.sha256, "doors": doors.sha256}


def test_an_artifact_that_never_comes_keeps_every_slot_of_the_assignment_on_its_old_model(
    api: DeviceApi, tmp_path: Path
) -> None:
    old = two(api, tmp_path, 1)
    new = two(api, tmp_path, 2)
    blocked = new[1].manifest.artifacts[0].sha256
    content = api.artifacts.pop(blocked)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, digits=old[0].assigned(), doors=old[1].assigned())
        counter = api.assign({"digits": new[0].assigned(), "doors": new[1].assigned()})
        wait_until(lambda: len(failure_codes(api, counter)) == 2, what="both slots to give up")
        assert failure_codes(api, counter) == {"digits": {"E_PARTIAL_BUNDLE"}, "doors": {"E_HTTP_404[artifact]"}}
        assert active(agent) == {"digits": old[0].sha256, "doors": old[1].sha256}
        api.artifacts[blocked] = content
        wait_for(api, counter, "digits", "healthy")
        wait_for(api, counter, "doors", "healthy")
        assert agent.answer_version("digits") == agent.answer_version("doors") == "2"


def test_a_slot_that_runs_its_model_already_waits_for_nobody(api: DeviceApi, tmp_path: Path) -> None:
    digits, doors = two(api, tmp_path, 1)
    api.images.withdraw(doors)
    with an_agent(api, tmp_path):
        make_healthy(api, digits=digits.assigned())
        counter = api.assign({"digits": digits.assigned(), "doors": doors.assigned()})
        wait_for(api, counter, "doors", "failed")
        wait_for(api, counter, "digits", "healthy")
        assert failure_codes(api, counter) == {"doors": {"E_NOT_IN_IMAGE_REPO"}}


def test_a_model_that_the_device_refuses_holds_the_others_up_once_and_not_for_ever(
    api: DeviceApi, tmp_path: Path
) -> None:
    digits, doors = two(api, tmp_path, 1)
    lying = _with_wrong_golden_rows(api, doors, tmp_path)
    with an_agent(api, tmp_path) as agent:
        counter = api.assign({"digits": digits.assigned(), "doors": lying.assigned()})
        wait_for(api, counter, "digits", "healthy")
        assert failure_codes(api, counter) == {"digits": {"E_PARTIAL_BUNDLE"}, "doors": {"E_BEHAVIOUR"}}
        assert active(agent)["doors"] is None


def _with_wrong_golden_rows(api: DeviceApi, release: Release, work: Path) -> Release:
    golden = next(entry for entry in release.manifest.artifacts if entry.name == "golden.npz")
    honest, path = work / "honest.npz", work / "golden.npz"
    honest.write_bytes(api.artifacts[golden.sha256])
    arrays = dict(np.load(honest))
    np.savez(path, **{name: array + name.startswith("output") for name, array in arrays.items()})
    entry = artifact_entry(path)
    api.artifacts[entry.sha256] = path.read_bytes()
    artifacts = tuple(entry if known.name == entry.name else known for known in release.manifest.artifacts)
    return api.images.publish(replace(release.manifest, version=9, artifacts=artifacts))


@plays(Group.MIX, "the agent is killed between two slots of one assignment", "the old set is active")
def test_a_kill_while_one_slot_is_ready_leaves_the_old_set_and_the_update_is_finished_later(
    api: DeviceApi, tmp_path: Path
) -> None:
    old, new = two(api, tmp_path, 1), two(api, tmp_path, 2)
    blocked = new[1].manifest.artifacts[-1].sha256
    content = api.artifacts.pop(blocked)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, digits=old[0].assigned(), doors=old[1].assigned())
        counter = api.assign({"digits": new[0].assigned(), "doors": new[1].assigned()})
        wait_until((agent.state / "models" / new[0].sha256).exists, what="the first slot to be complete")
        agent.kill()
        assert active(agent) == {"digits": old[0].sha256, "doors": old[1].sha256}
        assert agent.answer_version("digits") == agent.answer_version("doors") == "1"
        api.artifacts[blocked] = content
        agent.start()
        wait_for(api, counter, "digits", "healthy")
        wait_for(api, counter, "doors", "healthy")
