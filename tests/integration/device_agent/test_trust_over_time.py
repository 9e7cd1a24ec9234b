"""Wrong clocks, long silences, rotations in between: the device finds back by itself, and goes on serving meanwhile."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.agents import an_agent, an_agent_with_a_clock, publish_model
from tests.support.attacks import Group, plays
from tests.support.device_api import DeviceApi, device_api
from tests.support.signed_repository import Release
from tests.support.waiting import wait_until


class Clock:
    """A clock that runs, and can be put forward or back."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def controllers_clock() -> Clock:
    return Clock()


@pytest.fixture
def timed_api(controllers_clock: Clock) -> Iterator[DeviceApi]:
    with device_api(controllers_clock) as api:
        yield api


def make_healthy(api: DeviceApi, release: Release) -> None:
    counter = api.assign({"digits": release.assigned()})
    wait_until(lambda: "healthy" in api.states(counter), what=f"version {release.manifest.version} to be healthy")


@pytest.mark.parametrize("years", [-5, 15])
def test_a_device_with_a_wrong_clock_asks_for_the_time_and_goes_on(
    api: DeviceApi, tmp_path: Path, caplog: pytest.LogCaptureFixture, years: int
) -> None:
    first = publish_model(api, tmp_path, 1)
    clock = Clock()
    clock.ahead = timedelta(days=365 * years)
    caplog.set_level("INFO")
    with an_agent_with_a_clock(api, tmp_path, clock):
        make_healthy(api, first)
        assert "asked for the time" in caplog.text


def test_an_old_answer_about_the_time_is_not_believed(
    api: DeviceApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = publish_model(api, tmp_path, 1)
    clock = Clock()
    clock.ahead = timedelta(days=365 * 15)
    api.old_nonce = "0" * 32
    with an_agent_with_a_clock(api, tmp_path, clock):
        counter = api.assign({"digits": first.assigned()})
        wait_until(lambda: "E_TIME_REPLAY[time]" in caplog.text, what="the old answer")
        assert "assignment not accepted: E_FREEZE_EXPIRED[director-root]" in caplog.text
        assert api.states(counter) == []
        api.old_nonce = None
        wait_until(lambda: "healthy" in api.states(counter), what="the right time")


@plays(Group.FREEZE, "a stolen director pushes the time ten years on", "the next honest answer undoes it")
def test_a_director_that_lies_about_the_time_is_forgotten_with_the_next_honest_answer(
    timed_api: DeviceApi, controllers_clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = timed_api
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent_with_a_clock(api, tmp_path, Clock()) as agent:
        make_healthy(api, first)
        controllers_clock.ahead = timedelta(days=3650)
        # Issued in the future: the device asks, believes the lie, and finds everything else expired.
        api.assign({"digits": second.assigned()})
        wait_until(lambda: "E_FREEZE_EXPIRED" in caplog.text, what="the lie to be believed")
        assert agent.answer_version() == "1"
        controllers_clock.ahead = timedelta()
        make_healthy(api, second)
        assert agent.answer_version() == "2"


@plays(Group.FREEZE, "400 days offline, both roots rotated three times meanwhile", "it recovers by itself")
@pytest.mark.parametrize("clock_stood_still", [False, True])
def test_a_device_that_was_offline_for_400_days_follows_three_rotations_of_both_roots(
    timed_api: DeviceApi,
    controllers_clock: Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    *,
    clock_stood_still: bool,
) -> None:
    api, clock = timed_api, controllers_clock
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    devices_clock = Clock() if clock_stood_still else clock
    with an_agent_with_a_clock(api, tmp_path, devices_clock) as agent:
        make_healthy(api, first)
        agent.stop()
        for days in (100, 200, 300):
            clock.ahead = timedelta(days=days)
            api.images.rotate("root", "timestamp", "snapshot", "targets")
            api.director.rotate(root_key=True)
        clock.ahead = timedelta(days=400)
        api.images.renew()
        api.down = True
        agent.start()
        wait_until(lambda: agent.serving().get("slots") == {"digits": first.sha256}, what="the old model to serve")
        assert agent.answer_version() == "1"
        if not clock_stood_still:
            wait_until(lambda: "stale: the assignment expired" in caplog.text, what="the warning")
        api.down = False
        make_healthy(api, second)
        assert agent.answer_version() == "2"


@plays(Group.FREEZE, "a device is kept from its controller until everything has expired", "the active model serves on")
def test_an_assignment_that_expires_is_said_to_be_stale_and_stops_nothing(api: DeviceApi, tmp_path: Path) -> None:
    first = publish_model(api, tmp_path, 1)
    with an_agent(api, tmp_path) as agent:
        counter = api.assign({"digits": first.assigned()}, validity=timedelta(seconds=20))
        wait_until(lambda: "healthy" in api.states(counter), what="the model to be healthy")
        assert agent.status()["stale"] is False
        api.down = True
        wait_until(lambda: agent.status()["stale"], what="the assignment to expire")
        wait_until(lambda: "stale: the assignment expired" in agent.log.read_text(), what="the warning")
        assert agent.answer_version() == "1"
        api.down = False
        api.assign({"digits": first.assigned()})
        wait_until(lambda: not agent.status()["stale"], what="the new assignment")


def test_packaged_anchors_lead_past_roots_that_nobody_keeps_any_more(
    api: DeviceApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anchors = tmp_path / "anchors"
    anchors.mkdir()
    first, second = publish_model(api, tmp_path, 1), publish_model(api, tmp_path, 2)
    with an_agent_with_a_clock(api, tmp_path, Clock(), f'anchors_dir = "{anchors}"\n') as agent:
        make_healthy(api, first)
        agent.stop()
        for _ in range(2):
            api.images.rotate("root", "timestamp", "snapshot")
            api.director.rotate(root_key=True)
        api.images.sign_top()
        lost_image, lost_director = api.images.files.pop("metadata/2.root.json"), api.director.roots.pop(2)
        agent.start()
        api.assign({"digits": second.assigned()})
        wait_until(lambda: "E_SIG_THRESHOLD[assignment]" in caplog.text, what="the device to be stuck")
        agent.stop()
        (anchors / "image-root.json").write_bytes(lost_image)
        (anchors / "director-root.json").write_bytes(lost_director)
        agent.start()
        make_healthy(api, second)


def test_a_floor_outlives_the_state_record_and_a_lawful_way_back_above_it_works(api: DeviceApi, tmp_path: Path) -> None:
    releases: dict[int, Release] = {
        version: publish_model(api, tmp_path, version, **({"floor": 3} if version == 4 else {}))
        for version in (2, 3, 4)
    }
    with an_agent(api, tmp_path) as agent:
        for version in (2, 4, 3):
            make_healthy(api, releases[version])
        _refuses(api, releases[2])
        assert agent.stop() == 0
        (agent.state / "state").write_bytes(b"00000000 {}")
        agent.start()
        _refuses(api, releases[2])
        serves = {"digits": releases[3].sha256}
        wait_until(lambda: agent.serving().get("slots") == serves, what="the confirmed version to serve on")


def _refuses(api: DeviceApi, release: Release) -> None:
    counter = api.assign({"digits": release.assigned()})
    wait_until(lambda: "failed" in api.states(counter), what="the refusal")
    codes = {item["code"] for item in api.items() if item["counter"] == counter and item["state"] == "failed"}
    assert codes == {"E_ROLLBACK[release]"}
