"""Rollouts from creation to their end, on both databases, with devices that poll and report."""

import pytest

from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.gates import GatePolicy
from controller.domain.ids import DeviceId, RolloutId
from controller.domain.rollout import RolloutEvent, RolloutState
from controller.store import rollouts, tables
from controller.store.database import Database
from controller.store.views import rollouts as views
from controller.use_cases.advance_rollout import advance_rollouts
from controller.use_cases.create_group import create_group
from controller.use_cases.create_rollout import RolloutPreview, RolloutRequest, create_rollout
from controller.use_cases.mark_silent import mark_silent
from controller.use_cases.set_pin import set_pin
from controller.use_cases.steer_rollout import steer_rollout
from device_agent.protocol.messages import LifecycleState
from tests.support.fleet import Fleet, profile

STRICT = GatePolicy(success_share=1.0, failure_share=0.0, soak_s=10, silent_after_s=60)


@pytest.fixture
def fleet(database: Database) -> Fleet:
    """Six devices that run version 1 by a pin, and a published version 2."""
    fleet = Fleet.create(database)
    fleet.publish(1)
    fleet.publish(2)
    devices = [fleet.enrol(f"cam-{number}") for number in range(6)]
    set_pin(database, "digits", 1, "all", now=fleet.now)
    fleet.healthy(*devices)
    fleet.wait(1)
    return fleet


def start(fleet: Fleet, *stages: float, gate: GatePolicy = STRICT, version: int = 2, group: str = "all") -> RolloutId:
    return preview(fleet, *stages, gate=gate, version=version, group=group).rollout.id


def preview(
    fleet: Fleet, *stages: float, gate: GatePolicy = STRICT, version: int = 2, group: str = "all", only: bool = False
) -> RolloutPreview:
    request = RolloutRequest(fleet.model, version, group, stages, gate)
    return create_rollout(fleet.database, request, now=fleet.now, validate_only=only)


def state(fleet: Fleet, rollout_id: RolloutId) -> RolloutState:
    with fleet.database.reading() as tx:
        return rollouts.rollout_by_id(tx, rollout_id)[0].state


def devices_on(fleet: Fleet, manifest: str | None) -> list[DeviceId]:
    everyone = [DeviceId(f"dv_cam-{number}") for number in range(6)]
    return [device for device in everyone if fleet.runs(device) == manifest]


def manifest_of(fleet: Fleet, version: int) -> str:
    with fleet.database.reading() as tx:
        found = tables.variant.select().where(tables.variant.c.version_id == f"ve_{version}")
        sha256: str = tx.execute(found).one().manifest_sha256
    return sha256


def test_a_rollout_whose_devices_stay_healthy_reaches_everyone_and_moves_the_pin(fleet: Fleet) -> None:
    second = manifest_of(fleet, 2)
    rollout_id = start(fleet, 17, 50, 100)
    for admitted in (2, 3, 6):
        chosen = devices_on(fleet, second)
        assert len(chosen) == admitted
        fleet.healthy(*chosen)
        fleet.wait(1)
        advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.SUCCEEDED
    with fleet.database.reading() as tx:
        assert [pin["version"] for pin in views.pins(tx)] == [2]
    assert devices_on(fleet, second) == devices_on(fleet, second)
    newcomer = fleet.enrol("cam-9")
    assert fleet.runs(newcomer) == second


def test_a_stage_waits_for_its_devices_and_says_how_many_more_it_needs(fleet: Fleet) -> None:
    rollout_id = start(fleet, 50, 100)
    chosen = devices_on(fleet, manifest_of(fleet, 2))
    fleet.healthy(chosen[0])
    advance_rollouts(fleet.database, now=fleet.now)
    with fleet.database.reading() as tx:
        document = views.rollout(tx, rollout_id)
    assert document["stage"] == 1
    assert "1 of 3 devices healthy, 2 more needed" in document["explanation"]
    assert document["counts"] == {"taken": 2, "healthy": 1, "failed": 0, "silent": 0}


def test_a_failed_device_aborts_the_rollout_and_everyone_is_assigned_the_version_before(fleet: Fleet) -> None:
    first, second = manifest_of(fleet, 1), manifest_of(fleet, 2)
    rollout_id = start(fleet, 50, 100)
    chosen = devices_on(fleet, second)
    fleet.healthy(*chosen[1:])
    fleet.report(chosen[0], LifecycleState.FAILED, active=first)
    fleet.wait(1)
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.REVERTING
    assert len(devices_on(fleet, first)) == 6
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.REVERTING, "two devices have not reported to be back"
    fleet.healthy(*chosen[1:])
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.ABORTED
    with fleet.database.reading() as tx:
        document = views.rollout(tx, rollout_id)
    assert [hit["code"] for hit in document["hit_devices"]] == ["E_HEALTH_COMMAND"]


def test_a_refused_manifest_is_never_assigned_to_that_device_again(fleet: Fleet) -> None:
    first, second = manifest_of(fleet, 1), manifest_of(fleet, 2)
    tolerant = GatePolicy(success_share=0.5, failure_share=0.5, soak_s=1, silent_after_s=60)
    start(fleet, 100, gate=tolerant)
    device = devices_on(fleet, second)[0]
    fleet.report(device, LifecycleState.FAILED, active=first)
    assert fleet.runs(device) == first


def test_a_device_that_takes_the_assignment_and_falls_silent_counts_as_lost(fleet: Fleet) -> None:
    rollout_id = start(fleet, 50, 100)
    devices_on(fleet, manifest_of(fleet, 2))
    fleet.wait(61)
    assert mark_silent(fleet.database, now=fleet.now) == 3
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.REVERTING
    fleet.wait(61)
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.ABORTED, "devices that never answer must not keep it open"
    with fleet.database.reading() as tx:
        assert "3 have not answered since" in views.rollout(tx, rollout_id)["explanation"]


def test_a_late_report_corrects_the_silence(fleet: Fleet) -> None:
    tolerant = GatePolicy(success_share=0.1, failure_share=0.9, soak_s=1, silent_after_s=60)
    rollout_id = start(fleet, 50, 100, gate=tolerant)
    chosen = devices_on(fleet, manifest_of(fleet, 2))
    fleet.wait(61)
    mark_silent(fleet.database, now=fleet.now)
    fleet.healthy(chosen[0])
    with fleet.database.reading() as tx:
        assert views.rollout(tx, rollout_id)["counts"] == {"taken": 0, "healthy": 1, "failed": 0, "silent": 2}


def test_pausing_withholds_the_version_from_devices_that_have_not_taken_it(fleet: Fleet) -> None:
    second = manifest_of(fleet, 2)
    rollout_id = start(fleet, 100)
    taker = DeviceId("dv_cam-0")
    assert fleet.runs(taker) == second
    steer_rollout(fleet.database, rollout_id, RolloutEvent.PAUSE, now=fleet.now)
    assert devices_on(fleet, second) == [taker]
    steer_rollout(fleet.database, rollout_id, RolloutEvent.RESUME, now=fleet.now)
    assert len(devices_on(fleet, second)) == 6


def test_aborting_a_first_rollout_empties_the_slot_of_those_that_took_it(database: Database) -> None:
    fleet = Fleet.create(database)
    only = fleet.publish(1)
    device = fleet.enrol("cam-0")
    rollout_id = start(fleet, 100, version=1)
    assert fleet.runs(device) == only
    steer_rollout(database, rollout_id, RolloutEvent.ABORT, now=fleet.now)
    assert fleet.poll(device).manifests == {"digits": None}
    latecomer = fleet.enrol("cam-1")
    assert fleet.poll(latecomer).manifests == {}


def test_an_ended_rollout_takes_no_event(fleet: Fleet) -> None:
    rollout_id = start(fleet, 100)
    fleet.healthy(*devices_on(fleet, manifest_of(fleet, 2)))
    advance_rollouts(fleet.database, now=fleet.now)
    with pytest.raises(Conflict, match="succeeded and cannot abort"):
        steer_rollout(fleet.database, rollout_id, RolloutEvent.ABORT, now=fleet.now)


def test_advancing_twice_on_the_same_facts_writes_nothing_more(fleet: Fleet) -> None:
    start(fleet, 50, 100)
    fleet.healthy(*devices_on(fleet, manifest_of(fleet, 2)))
    assert advance_rollouts(fleet.database, now=fleet.now) == 1
    assert advance_rollouts(fleet.database, now=fleet.now) == 0
    with fleet.database.reading() as tx:
        before = tx.execute(tables.event.select()).all()
    advance_rollouts(fleet.database, now=fleet.now)
    with fleet.database.reading() as tx:
        assert tx.execute(tables.event.select()).all() == before


def test_a_device_that_enrols_in_mid_rollout_falls_under_the_same_cut_off(fleet: Fleet) -> None:
    second = manifest_of(fleet, 2)
    start(fleet, 50, 100)
    late = [fleet.enrol(f"late-{number}") for number in range(40)]
    admitted = [device for device in late if fleet.runs(device) == second]
    assert 0 < len(admitted) < 40
    fleet.healthy(*devices_on(fleet, second))
    advance_rollouts(fleet.database, now=fleet.now)
    assert all(fleet.runs(device) == second for device in late)


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        ((), "empty"),
        ((50,), "must be 100"),
        ((60, 50, 100), "above the last"),
        ((50, 120), "at most 100"),
        ((0, 100), "above 0"),
    ],
)
def test_stages_that_do_not_add_up_are_refused(fleet: Fleet, stages: tuple[float, ...], told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as refused:
        start(fleet, *stages)
    assert refused.value.field == "/stages"


def test_a_second_rollout_on_a_group_that_shares_devices_is_refused(fleet: Fleet) -> None:
    fleet.publish(3)
    create_group(fleet.database, "two", None, ["cam-0", "cam-1"], now=fleet.now)
    first = start(fleet, 100)
    with pytest.raises(Conflict, match=f"rollout {first} .* shares 2 devices with group two"):
        start(fleet, 100, version=3, group="two")


def test_rollouts_on_groups_without_a_common_device_may_run_at_once(fleet: Fleet) -> None:
    create_group(fleet.database, "one", None, ["cam-0"], now=fleet.now)
    create_group(fleet.database, "two", None, ["cam-1"], now=fleet.now)
    assert start(fleet, 100, group="one") != start(fleet, 100, group="two")


def test_a_group_that_matches_no_device_is_refused(fleet: Fleet) -> None:
    create_group(fleet.database, "nobody", "site=moon", None, now=fleet.now)
    with pytest.raises(InvalidInput, match="matches no device") as refused:
        start(fleet, 100, group="nobody")
    assert refused.value.code == "group_matches_nothing"


def test_devices_that_cannot_run_the_version_are_left_out_and_counted_with_reasons(fleet: Fleet) -> None:
    fleet.enrol("tiny", profile("tiny", memory_bytes=10))
    found = preview(fleet, 100, only=True)
    assert found.rollout.stages[-1].devices == 6
    assert list(found.incompatible.values()) == [1]
    assert "needs 1000 bytes of memory" in next(iter(found.incompatible))


def test_a_group_of_which_nobody_can_run_the_version_is_refused(fleet: Fleet) -> None:
    fleet.enrol("tiny", profile("tiny", memory_bytes=10))
    create_group(fleet.database, "tiny", "profile=tiny", None, now=fleet.now)
    with pytest.raises(InvalidInput, match="none of the 1 devices"):
        start(fleet, 100, group="tiny")


def test_validating_only_writes_nothing(fleet: Fleet) -> None:
    preview(fleet, 100, only=True)
    with fleet.database.reading() as tx:
        assert views.rollouts(tx, 10) == []


def test_a_version_or_group_that_does_not_exist_is_named(fleet: Fleet) -> None:
    with pytest.raises(NotFound, match="no version 7"):
        start(fleet, 100, version=7)
    with pytest.raises(NotFound, match="no group 'moon'"):
        start(fleet, 100, group="moon")


def test_a_pin_cannot_be_moved_under_a_running_rollout(fleet: Fleet) -> None:
    rollout_id = start(fleet, 100)
    with pytest.raises(Conflict, match=str(rollout_id)):
        set_pin(fleet.database, "digits", 1, "all", now=fleet.now)
