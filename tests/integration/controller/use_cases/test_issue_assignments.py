from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select

from controller.domain.gates import GatePolicy
from controller.domain.ids import DeviceId
from controller.store import tables
from controller.store.database import Database
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.follow_changes import read_policy
from controller.use_cases.issue_assignments import issue_assignments
from controller.use_cases.set_pin import delete_pin, set_pin
from device_agent.protocol.assignment import Recipient, verify_assignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.messages import LifecycleState
from tests.support.fleet import Fleet

GATE = GatePolicy(success_share=0.5, failure_share=0.5, soak_s=5, silent_after_s=90)


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet.create(database)


def outcomes(fleet: Fleet, device_id: DeviceId) -> list[Any]:
    table = tables.outcome
    with fleet.database.reading() as tx:
        return list(tx.execute(select(table).where(table.c.device_id == device_id).order_by(table.c.counter)))


def roll_out(fleet: Fleet, version: int, *stages: float) -> str:
    request = RolloutRequest(fleet.model, version, "all", stages, GATE)
    return create_rollout(fleet.database, request, now=fleet.now).rollout.id


def test_a_device_for_which_nothing_is_decided_gets_an_assignment_without_slots(fleet: Fleet) -> None:
    issued = fleet.poll(fleet.enrol("cam"))
    assert issued.manifests == {}
    assert issued.counter == int(fleet.now.timestamp())


def test_a_device_accepts_what_was_signed_for_it(fleet: Fleet) -> None:
    manifest = fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("cam")
    envelope = fleet.poll(device_id).envelope
    verified, _ = verify_assignment(
        envelope,
        root=fleet.director.root,
        recipient=Recipient(device_id, "camera", Channel.DEV),
        mark=None,
        now=fleet.now,
    )
    slot = verified.slots[fleet.model]
    assert slot is not None
    assert (slot.sha256, slot.length, slot.target) == (manifest, 500, f"dev/{fleet.model}/1/fp32/manifest.json")
    assert (verified.expires - verified.issued, verified.poll_s) == (timedelta(hours=48), 60.0)


def test_asking_again_gives_the_same_assignment_and_writes_nothing(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    first = fleet.poll(device_id)
    written: list[str] = []
    event.listen(fleet.database.engine, "before_cursor_execute", lambda *call: written.append(call[2]))
    assert fleet.poll(device_id) == first
    assert written
    assert not [statement for statement in written if statement.startswith(("INSERT", "UPDATE", "BEGIN IMMEDIATE"))]


def test_counters_rise_even_within_one_second(fleet: Fleet) -> None:
    fleet.publish(1)
    device_id = fleet.enrol("cam")
    first = fleet.poll(device_id).counter
    pin_id = set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    second = fleet.poll(device_id).counter
    delete_pin(fleet.database, pin_id, now=fleet.now)
    assert [first + 1, first + 2] == [second, fleet.poll(device_id).counter]


def test_a_pin_is_taken_with_a_deadline(fleet: Fleet) -> None:
    manifest = fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("cam")
    fleet.poll(device_id)
    [taken] = outcomes(fleet, device_id)
    assert (taken.state, taken.manifest_sha256, taken.version_id) == ("taken", manifest, "ve_1")
    assert (taken.rollout_id, taken.silent_at - taken.taken_at) == (None, timedelta(hours=1))


def test_a_rollout_counts_the_device_in_its_stage_with_its_own_deadline(fleet: Fleet) -> None:
    fleet.publish(1)
    device_id = fleet.enrol("cam")
    rollout_id = roll_out(fleet, 1, 100)
    assert fleet.poll(device_id).device.took == {rollout_id}
    [taken] = outcomes(fleet, device_id)
    assert (taken.rollout_id, taken.stage) == (rollout_id, 0)
    assert taken.silent_at - taken.taken_at == timedelta(seconds=GATE.silent_after_s)


def test_a_device_that_runs_the_version_already_counts_as_healthy_at_once(fleet: Fleet) -> None:
    fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("cam")
    fleet.healthy(device_id)
    rollout_id = roll_out(fleet, 1, 100)
    fleet.poll(device_id)
    counted = outcomes(fleet, device_id)[-1]
    assert (counted.rollout_id, counted.state, counted.decided_at) == (rollout_id, "healthy", fleet.now)


def test_a_device_at_work_on_the_version_does_not_count_as_healthy_yet(fleet: Fleet) -> None:
    fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("cam")
    fleet.report(device_id, LifecycleState.SOAKING)
    roll_out(fleet, 1, 100)
    fleet.poll(device_id)
    assert [one.state for one in outcomes(fleet, device_id)] == ["taken", "taken"]


def test_an_assignment_of_one_day_is_signed_anew_without_another_outcome(fleet: Fleet) -> None:
    fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("cam")
    first = fleet.poll(device_id)
    fleet.wait(24 * 3600 - 1)
    assert fleet.poll(device_id).counter == first.counter
    fleet.wait(1)
    renewed = fleet.poll(device_id)
    assert (renewed.counter > first.counter, renewed.manifests) == (True, first.manifests)
    assert len(outcomes(fleet, device_id)) == 1


def test_a_process_with_an_outdated_policy_does_not_take_back_what_another_issued(fleet: Fleet) -> None:
    fleet.publish(1)
    fleet.publish(2)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("cam")
    outdated = read_policy(fleet.database)
    set_pin(fleet.database, fleet.model, 2, "all", now=fleet.now)
    issued = fleet.poll(device_id)
    late = issue_assignments(fleet.database, fleet.director, [device_id], outdated, poll_s=60, now=fleet.now)
    assert (late.of[device_id].counter, late.of[device_id].manifests) == (issued.counter, issued.manifests)


def test_processes_that_issue_to_the_same_devices_at_once_sign_one_assignment_each(fleet: Fleet) -> None:
    fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    ids = [fleet.enrol(f"cam-{number}") for number in range(20)]

    def issue(order: list[DeviceId]) -> dict[DeviceId, bytes]:
        issued = issue_assignments(fleet.database, fleet.director, order, None, poll_s=60, now=fleet.now)
        return {device_id: current.envelope for device_id, current in issued.of.items()}

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(issue, [ids, ids[::-1], ids, ids[::-1]]))
    assert answers[1:] == answers[:-1]
    with fleet.database.reading() as tx:
        assert tx.execute(select(func.count()).select_from(tables.outcome)).scalar_one() == len(ids)


def test_a_device_that_does_not_exist_is_left_out(fleet: Fleet) -> None:
    known, unknown = fleet.enrol("cam"), DeviceId("dv_unknown")
    issued = issue_assignments(fleet.database, fleet.director, [known, unknown], None, poll_s=60, now=fleet.now)
    assert set(issued.of) == {known}
