"""The whole agent against a controller over HTTP: real signatures, real models, a real serving process."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from device_agent.journal import open_journal
from device_agent.protocol.manifest import parse_manifest
from tests.support.agents import AgentProcess, an_agent, publish_model
from tests.support.attacks import Group, plays
from tests.support.device_api import DeviceApi, Fault
from tests.support.onnx_models import artifact_entry, model_directory
from tests.support.signed_repository import Release
from tests.support.waiting import wait_until

UNHEALTHY_TWO = """
[health]
command = ["sh", "-c", "echo looked at $EDGEFLEET_SLOT at $EDGEFLEET_INFERENCE_URL; test $EDGEFLEET_VERSION != 2"]
interval_s = 0.1
"""


def make_healthy(api: DeviceApi, release: Release, soak_s: float = 0.0) -> int:
    """Assign a release and wait until the agent has confirmed it."""
    counter = api.assign({"digits": release.assigned(soak_s)})
    wait_until(lambda: "healthy" in api.states(counter), what=f"version {release.manifest.version} to be healthy")
    return counter


def wait_for_failure(api: DeviceApi, counter: int) -> dict[str, object]:
    """Return the report of an assignment's failure."""
    wait_until(lambda: "failed" in api.states(counter), what="the failure report")
    return next(item for item in api.items() if item["counter"] == counter and item["state"] == "failed")


def wait_for_trial(api: DeviceApi, release: Release) -> int:
    """Assign a release with a soak that outlasts any test and wait until it is on trial."""
    counter = api.assign({"digits": release.assigned(soak_s=3600)})
    wait_until(lambda: "soaking" in api.states(counter), what="the trial")
    return counter


def test_an_assigned_model_is_fetched_proven_served_and_reported_healthy(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        counter = api.assign({"digits": first.assigned()})
        wait_until(lambda: "healthy" in api.states(counter), what="the healthy report")
        assert api.states(counter) == ["downloading", "soaking", "healthy"]
        assert api.items()[-1]["active"] == first.sha256
        assert agent.answer_version() == "1"
        wait_until(lambda: any(item["requests"] for item in api.items("serving")), what="serving counts")


def test_no_request_fails_while_the_slot_switches_to_a_new_version(api: DeviceApi, tmp_path: Path) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        answered: list[str] = []
        switched = threading.Event()

        def ask_until_switched() -> None:
            while not switched.is_set() or answered[-1] == "1":
                answered.append(agent.answer_version())

        client = threading.Thread(target=ask_until_switched)
        client.start()
        make_healthy(api, second)
        switched.set()
        client.join(60)
        assert answered[0] == "1"
        assert answered[-1] == "2"
        assert answered == sorted(answered)


def test_a_model_that_fails_the_health_command_is_reverted_refused_and_not_tried_again(
    api: DeviceApi, tmp_path: Path
) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path, UNHEALTHY_TWO) as agent:
        make_healthy(api, first)
        counter = api.assign({"digits": second.assigned(soak_s=3600)})
        report = wait_for_failure(api, counter)
        assert (report["stage"], report["code"], report["refused"]) == ("health", "E_HEALTH_COMMAND", True)
        assert "looked at digits at http://127.0.0.1:" in str(report["message"])
        assert report["active"] == first.sha256
        assert agent.answer_version() == "1"

        again = api.assign({"digits": second.assigned()})
        report = wait_for_failure(api, again)
        assert (report["code"], report["refused"]) == ("E_REFUSED_BEFORE", True)
        assert api.states(again) == ["failed"]
        assert agent.answer_version() == "1"


def test_a_model_that_behaves_differently_never_serves_and_is_refused(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    honest = publish_model(api, tmp_path, 2)
    golden = next(entry for entry in honest.manifest.artifacts if entry.name == "golden.npz")
    lying = tmp_path / "golden.npz"
    arrays = dict(np.load(_written(tmp_path / "honest.npz", api.artifacts[golden.sha256])))
    np.savez(lying, **{name: array + name.startswith("output") for name, array in arrays.items()})
    entry = artifact_entry(lying)
    api.artifacts[entry.sha256] = lying.read_bytes()
    artifacts = tuple(entry if known.name == entry.name else known for known in honest.manifest.artifacts)
    second = api.images.publish(replace(honest.manifest, version=3, artifacts=artifacts))
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        counter = api.assign({"digits": second.assigned()})
        report = wait_for_failure(api, counter)
        assert (report["stage"], report["code"], report["refused"]) == ("behaviour", "E_BEHAVIOUR", True)
        assert report["active"] == first.sha256
        assert api.states(counter) == ["downloading", "failed"]
        assert agent.answer_version() == "1"


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_going_back_to_the_confirmed_version_is_allowed_during_a_soak(api: DeviceApi, tmp_path: Path) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        counter = wait_for_trial(api, second)
        back = make_healthy(api, first)
        assert api.states(back) == ["healthy"]
        assert api.states(counter) == ["downloading", "soaking"]
        assert agent.answer_version() == "1"
        assert agent.status()["slots"]["digits"]["refused"] == {}


def test_a_third_version_waits_until_the_trial_is_decided(api: DeviceApi, tmp_path: Path) -> None:
    first, second, third = (publish_model(api, tmp_path, version) for version in (1, 2, 3))
    sick = tmp_path / "sick"
    command = f'[health]\ncommand = ["sh", "-c", "test ! -e {sick}"]\ninterval_s = 0.1\n'
    with an_agent(api, tmp_path, command):
        make_healthy(api, first)
        wait_for_trial(api, second)
        later = api.assign({"digits": third.assigned()})
        polls = len(api.paths("/device/v1/assignment"))
        wait_until(lambda: len(api.paths("/device/v1/assignment")) > polls + 5, what="polls during the soak")
        assert api.states(later) == []
        sick.touch()
        wait_until(lambda: api.states(later), what="the third version to be taken up")


def test_an_empty_slot_is_unloaded_and_a_slot_not_named_keeps_its_model(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        api.assign({})
        tag = f'"{api.counter}"'
        wait_until(lambda: api.requests[-1][2].get("if-none-match") == tag, what="the poll after the empty assignment")
        assert agent.answer_version() == "1"
        api.assign({"digits": None})
        wait_until(lambda: agent.serving().get("slots") == {}, what="the slot to be empty")
        assert agent.status()["slots"]["digits"]["active"] is None


def test_a_killed_agent_leaves_serving_alive_and_its_successor_takes_it_over(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        before = agent.serving()
        agent.kill()
        assert agent.answer_version() == "1"
        agent.start()
        make_healthy(api, first)
        assert agent.serving()["pid"] == before["pid"]
        assert agent.stop() == 0
        assert agent.serving() == {}


def test_a_killed_download_goes_on_from_its_part_file(api: DeviceApi, tmp_path: Path) -> None:
    big = _release_with_ballast(api, tmp_path, ballast_bytes=2_000_000)
    ballast = next(entry for entry in big.manifest.artifacts if entry.name == "ballast.bin")
    # The first answer stops in the middle; everything after it would come at once, so the agent is killed before.
    path = f"/artifacts/sha256/{ballast.sha256}"
    api.faults[path] = [Fault(cut_after=1_200_000), *[Fault(status=503, retry_after="3600")] * 3]
    with an_agent(api, tmp_path) as agent:
        counter = api.assign({"digits": big.assigned()})
        wait_until(lambda: len(api.paths(path)) >= 2, what="the download to be cut")
        agent.kill()
        api.faults.clear()
        agent.start()
        wait_until(lambda: "healthy" in api.states(counter), what="the download to be completed")
        ranges = [headers["range"] for _, asked, headers in api.requests if asked == path]
        assert ranges[0] == "bytes=0-"
        assert ranges[-1] == f"bytes={4 * 256 * 1024}-"


def _release_with_ballast(api: DeviceApi, work: Path, *, ballast_bytes: int) -> Release:
    directory, _ = model_directory(work / "source", version=9)
    (directory / "ballast.bin").write_bytes(np.random.default_rng(1).bytes(ballast_bytes))
    manifest = parse_manifest((directory / "manifest.json").read_bytes())
    ballast = artifact_entry(directory / "ballast.bin")
    for entry in (*manifest.artifacts, ballast):
        api.artifacts[entry.sha256] = (directory / entry.name).read_bytes()
    return api.images.publish(replace(manifest, artifacts=(*manifest.artifacts, ballast)))


def test_a_trial_goes_on_after_a_kill_and_is_given_up_after_three_boots(api: DeviceApi, tmp_path: Path) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        counter = wait_for_trial(api, second)
        for boot in (2, 3):
            agent.kill()
            agent.start()
            wait_until(lambda boot=boot: _boots(agent) == boot, what=f"boot {boot} of the trial")
            assert agent.answer_version() == "2"
        agent.kill()
        agent.start()
        report = wait_for_failure(api, counter)
        assert (report["stage"], report["code"], report["refused"]) == ("runtime", "E_BOOT_LOOP", True)
        assert report["active"] == first.sha256
        wait_until(lambda: agent.answer_version() == "1", what="the confirmed version to be back")


def _boots(agent: AgentProcess) -> int:
    trial = open_journal(agent.state / "state").record.slot("digits").trial
    return trial.boots if trial else 0


def test_a_dead_serving_process_is_replaced_and_serves_the_confirmed_model_again(
    api: DeviceApi, tmp_path: Path
) -> None:
    first = publish_model(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        dead = agent.serving()["pid"]
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: agent.serving().get("slots") == {"digits": first.sha256}, what="the model to be back")
        assert agent.serving()["pid"] != dead


def test_a_dead_controller_and_bad_signatures_do_not_disturb_what_is_served(api: DeviceApi, tmp_path: Path) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        api.down = True
        polls = len(api.paths("/device/v1/assignment"))
        wait_until(lambda: len(api.paths("/device/v1/assignment")) > polls + 2, what="polls that fail")
        assert agent.answer_version() == "1"
        api.down = False
        honest = api.director.signer
        api.director.signer = api.director.root_key
        forged = api.assign({"digits": second.assigned()})
        wait_until(lambda: "E_SIG_THRESHOLD[assignment]" in agent.log.read_text(), what="the refusal")
        assert agent.answer_version() == "1"
        api.director.signer = honest
        api.director.rotate()
        assert api.states(forged) == []
        make_healthy(api, second)
        assert agent.answer_version() == "2"


def test_a_missing_artifact_fails_without_refusal_and_is_healed_when_it_appears(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    kept, api.artifacts = api.artifacts, {}
    with an_agent(api, tmp_path) as agent:
        counter = api.assign({"digits": first.assigned()})
        report = wait_for_failure(api, counter)
        assert (report["stage"], report["code"], report["refused"]) == ("download", "E_HTTP_404[artifact]", False)
        assert report["active"] is None
        api.artifacts = kept
        wait_until(lambda: "healthy" in api.states(counter), what="the next attempt to succeed")
        assert api.states(counter) == ["downloading", "failed", "soaking", "healthy"]
        assert agent.answer_version() == "1"


def test_a_model_that_rots_on_disk_is_fetched_again(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        assert agent.stop() == 0
        model = agent.state / "models" / first.sha256 / "model.onnx"
        model.chmod(0o644)
        model.write_bytes(model.read_bytes()[:-1] + b"?")
        agent.start()
        wait_until(lambda: _serves(agent, first), what="the model to be back")
        wait_until(lambda: agent.status()["slots"]["digits"]["good"] == first.sha256, what="its confirmation")


def test_a_lost_state_record_is_salvaged_from_the_models_without_a_controller(api: DeviceApi, tmp_path: Path) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        wait_for_trial(api, second)
        agent.kill()
        api.down = True
        (agent.state / "state").write_bytes(b"00000000 {}")
        agent.start()
        wait_until(lambda: agent.status()["slots"].get("digits"), what="the record to be made anew")
        wait_until(lambda: agent.serving().get("slots") == {"digits": first.sha256}, what="the older model to serve")
        assert (agent.state / "state.damaged").exists()


def test_a_disk_that_refuses_the_state_record_stops_the_update_and_nothing_else(api: DeviceApi, tmp_path: Path) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        (agent.state / "state.tmp").mkdir()
        counter = api.assign({"digits": second.assigned()})
        wait_until(lambda: "going on from what is on disk" in agent.log.read_text(), what="the failure to be noticed")
        assert agent.answer_version() == "1"
        (agent.state / "state.tmp").rmdir()
        wait_until(lambda: "healthy" in api.states(counter), what="the update to be completed")
        assert agent.answer_version() == "2"


def test_a_serving_process_that_dies_during_the_soak_counts_against_the_candidate(
    api: DeviceApi, tmp_path: Path
) -> None:
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, first)
        counter = wait_for_trial(api, second)
        for boot in (1, 2, 3):
            wait_until(lambda boot=boot: _boots(agent) == boot and _serves(agent, second), what=f"boot {boot}")
            os.kill(agent.serving()["pid"], signal.SIGKILL)
        report = wait_for_failure(api, counter)
        assert (report["stage"], report["code"], report["refused"]) == ("runtime", "E_BOOT_LOOP", True)
        wait_until(lambda: _serves(agent, first), what="the confirmed version to be back")


def _serves(agent: AgentProcess, release: Release) -> bool:
    return bool(agent.serving().get("slots") == {"digits": release.sha256})


@plays(Group.LOCAL, "a second agent works in the same state folder", "E_ALREADY_RUNNING")
def test_a_second_agent_in_the_same_directory_is_turned_away(api: DeviceApi, tmp_path: Path) -> None:
    with an_agent(api, tmp_path) as agent:
        second = subprocess.run(
            [sys.executable, "-m", "device_agent", "run", "--config", str(tmp_path / "agent.toml")],
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert "E_ALREADY_RUNNING" in second.stderr
        assert str(agent.state) in second.stderr


def test_a_used_token_ends_the_agent_with_a_remedy(api: DeviceApi, tmp_path: Path) -> None:
    agent = AgentProcess(api, tmp_path)
    api.tokens.clear()
    agent.start()
    assert agent.process
    assert agent.process.wait(60) == 2
    assert "make a new enrolment token" in agent.log.read_text()


def test_a_controller_with_other_roots_is_not_trusted_at_enrolment(api: DeviceApi, tmp_path: Path) -> None:
    agent = AgentProcess(api, tmp_path)
    api.director.roots[1] += b" "
    agent.start()
    assert agent.process
    assert agent.process.wait(60) == 2
    assert "do not fit the token's pin" in agent.log.read_text()
    assert not (agent.state / "identity").exists()
