from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Table, event, func, select

from controller.domain.ids import DeviceId
from controller.store import device_identities, tables
from controller.store.database import Database
from controller.store.devices import load_devices
from controller.store.trust_tables import audit_entry, report_position
from controller.use_cases.clear_suspicion import clear_suspicion
from controller.use_cases.follow_changes import follow_changes, read_policy
from controller.use_cases.mark_silent import mark_silent
from controller.use_cases.record_reports import Receipt, record_reports
from controller.use_cases.revoke_device import revoke_device
from controller.use_cases.set_pin import set_pin
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import (
    FailureStage,
    LifecycleItem,
    LifecycleState,
    ReportBatch,
    ServingItem,
)
from tests.support.fleet import Fleet


@pytest.fixture
def fleet(database: Database) -> Fleet:
    """A fleet that is pinned to version 1."""
    fleet = Fleet.create(database)
    fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    return fleet


def rows(fleet: Fleet, table: Table) -> list[Any]:
    with fleet.database.reading() as tx:
        return list(tx.execute(select(table)))


def send(fleet: Fleet, *sent: tuple[DeviceId, ReportBatch]) -> list[Receipt]:
    return record_reports(fleet.database, sent, now=fleet.now)


def suspicion_of(fleet: Fleet, device_id: DeviceId) -> str | None:
    with fleet.database.reading() as tx:
        known = device_identities.identity_of(tx, device_id)
    assert known
    return known.suspicion


def served(fleet: Fleet, requests: int = 3) -> ServingItem:
    latency = Histogram()
    for _ in range(requests):
        latency.add(0.004)
    return ServingItem(fleet.model, "a" * 64, fleet.now, 60.0, requests, 0, 192, latency)


def refused(fleet: Fleet, manifest: str) -> LifecycleItem:
    return LifecycleItem(
        fleet.model,
        1,
        manifest,
        LifecycleState.FAILED,
        fleet.now,
        stage=FailureStage.BEHAVIOUR,
        code="E_BEHAVIOUR",
        message="scores differ by 0.4",
        refused=True,
    )


def test_a_serving_report_is_kept_with_its_histogram(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.send(device_id, served(fleet))
    [kept] = rows(fleet, tables.serving_report)
    assert (kept.device_id, kept.requests, kept.input_bytes, kept.at) == (device_id, 3, 192, fleet.now)
    assert kept.latency == served(fleet).latency.to_json()


def test_a_batch_is_applied_once_however_often_it_comes(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    sent = (device_id, fleet.batch(device_id, served(fleet)))
    assert send(fleet, sent, sent) == [Receipt.APPLIED, Receipt.DUPLICATE]
    assert send(fleet, sent) == [Receipt.DUPLICATE]
    assert len(rows(fleet, tables.serving_report)) == 1
    assert suspicion_of(fleet, device_id) is None


def test_two_devices_may_choose_the_same_name_for_a_batch(fleet: Fleet) -> None:
    ids = [fleet.enrol(name) for name in ("one", "two")]
    sent = [(device_id, fleet.batch(device_id, served(fleet), name="b1")) for device_id in ids]
    assert send(fleet, *sent) == [Receipt.APPLIED, Receipt.APPLIED]


def test_several_batches_of_one_device_may_come_in_one_call(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    sent = [(device_id, fleet.batch(device_id, served(fleet))) for _ in range(3)]
    assert send(fleet, *sent) == [Receipt.APPLIED] * 3
    [position] = rows(fleet, report_position)
    assert (position.seq, position.batch) == (3, sent[2][1].batch)


def test_a_device_that_does_not_exist_spoils_nobody_elses_report(fleet: Fleet) -> None:
    gone, here = DeviceId("dv_gone"), fleet.enrol("cam")
    sent = [(device_id, fleet.batch(device_id, served(fleet))) for device_id in (gone, here)]
    assert send(fleet, *sent) == [Receipt.DEVICE_UNKNOWN, Receipt.APPLIED]


def test_a_batch_that_was_taken_before_and_others_after_it_is_a_replay(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    captured = (device_id, fleet.batch(device_id, served(fleet)))
    assert send(fleet, captured) == [Receipt.APPLIED]
    assert fleet.send(device_id, served(fleet)) is Receipt.APPLIED
    assert send(fleet, captured) == [Receipt.REPLAY]
    assert suspicion_of(fleet, device_id) is None
    assert fleet.send(device_id, served(fleet)) is Receipt.APPLIED


def test_a_device_that_lost_its_spool_goes_on_with_a_new_one(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.send(device_id, served(fleet))
    assert send(fleet, (device_id, replace(fleet.batch(device_id), spool="new", seq=1))) == [Receipt.APPLIED]
    assert suspicion_of(fleet, device_id) is None


def forked(fleet: Fleet, device_id: DeviceId) -> tuple[DeviceId, ReportBatch]:
    """Let the device report, and return what a copy of it would report under the same number."""
    fleet.send(device_id, served(fleet))
    original = fleet.batch(device_id, served(fleet))
    assert send(fleet, (device_id, original)) == [Receipt.APPLIED]
    return device_id, replace(original, batch="of-the-copy")


def test_two_machines_under_one_key_are_told_and_their_reports_refused(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    position = read_policy(fleet.database).seq
    assert send(fleet, forked(fleet, device_id)) == [Receipt.CLONE_SUSPECTED]
    assert "two machines" in (suspicion_of(fleet, device_id) or "")
    assert fleet.send(device_id, served(fleet)) is Receipt.CLONE_SUSPECTED
    assert len(rows(fleet, tables.serving_report)) == 2
    assert [one.subject for one in rows(fleet, tables.event) if one.kind == "device.suspected"] == [device_id]
    assert device_id in follow_changes(fleet.database, position).devices


def test_a_spool_that_was_given_up_and_is_used_again_is_a_copys(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    of_the_copy = replace(fleet.batch(device_id), seq=5)
    fleet.send(device_id, served(fleet))
    send(fleet, (device_id, replace(fleet.batch(device_id), spool="new", seq=1)))
    assert send(fleet, (device_id, of_the_copy)) == [Receipt.CLONE_SUSPECTED]


def test_within_one_call_what_follows_a_suspicion_is_refused_too(fleet: Fleet) -> None:
    device_id, other = fleet.enrol("cam"), fleet.enrol("other")
    copy = forked(fleet, device_id)
    sent = [copy, (device_id, fleet.batch(device_id)), (other, fleet.batch(other))]
    assert send(fleet, *sent) == [Receipt.CLONE_SUSPECTED, Receipt.CLONE_SUSPECTED, Receipt.APPLIED]


def test_a_suspected_device_still_gets_assignments(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    send(fleet, forked(fleet, device_id))
    assert fleet.runs(device_id) is not None


def test_a_cleared_device_goes_on_from_whichever_number_it_has_and_a_copy_shows_again(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    copy = forked(fleet, device_id)
    send(fleet, copy)
    clear_suspicion(fleet.database, "cam", now=fleet.now)
    assert suspicion_of(fleet, device_id) is None
    assert send(fleet, copy) == [Receipt.APPLIED]
    assert send(fleet, (device_id, replace(copy[1], batch="of-the-original"))) == [Receipt.CLONE_SUSPECTED]


def test_a_clearance_is_in_the_audit_log_and_one_without_a_suspicion_is_not(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    clear_suspicion(fleet.database, device_id, now=fleet.now, actor="too early")
    send(fleet, forked(fleet, device_id))
    clear_suspicion(fleet.database, device_id, now=fleet.now, actor="ada")
    [entry] = [one for one in rows(fleet, audit_entry) if one.action == "device.cleared"]
    assert (entry.actor, entry.subject) == ("ada", device_id)


def test_reports_of_a_revoked_device_are_refused(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    revoke_device(fleet.database, "cam", now=fleet.now)
    assert fleet.send(device_id, served(fleet)) is Receipt.DEVICE_REVOKED
    assert rows(fleet, tables.serving_report) == []


def test_the_number_of_statements_does_not_grow_with_the_number_of_devices(fleet: Fleet) -> None:
    ids = [fleet.enrol(f"cam-{number}") for number in range(40)]

    def statements(of: list[DeviceId]) -> int:
        asked: list[str] = []

        def note(*call: Any) -> None:
            asked.append(call[2])

        event.listen(fleet.database.engine, "before_cursor_execute", note)
        send(fleet, *[(device_id, fleet.batch(device_id, served(fleet))) for device_id in of])
        event.remove(fleet.database.engine, "before_cursor_execute", note)
        return len(asked)

    statements(ids)  # From the second batch on a device has a position.
    assert statements(ids) == statements(ids[:2]) <= 6


def test_a_healthy_device_decides_its_outcome_and_fills_its_slot(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.healthy(device_id)
    [outcome] = rows(fleet, tables.outcome)
    [slot] = rows(fleet, tables.device_slot)
    assert (outcome.state, outcome.decided_at) == ("healthy", fleet.now)
    assert (slot.version_id, slot.variant_id, slot.state) == ("ve_1", "va_1_fp32", "healthy")


def test_a_failure_is_kept_with_its_reason_and_told_in_the_history(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.report(device_id, LifecycleState.FAILED)
    [outcome] = rows(fleet, tables.outcome)
    assert (outcome.state, outcome.failure_stage, outcome.code) == ("failed", "health", "E_HEALTH_COMMAND")
    told = [one for one in rows(fleet, tables.event) if one.kind == "device.failed"]
    assert [(one.subject, one.actor) for one in told] == [(device_id, "device")]


def test_a_refusal_becomes_a_fact_of_the_device_that_every_process_hears_of(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    manifest = fleet.runs(device_id)
    assert manifest is not None
    position = read_policy(fleet.database).seq
    fleet.send(device_id, refused(fleet, manifest))
    with fleet.database.reading() as tx:
        assert load_devices(tx, [device_id])[device_id].refused == {manifest}
    assert follow_changes(fleet.database, position).devices == {device_id}


def test_what_was_never_published_is_not_remembered_as_refused(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    position = read_policy(fleet.database).seq
    fleet.send(device_id, refused(fleet, "f" * 64))
    assert rows(fleet, tables.refusal) == []
    assert follow_changes(fleet.database, position).devices == frozenset()


def test_reports_that_change_no_fact_wake_nobody(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.poll(device_id)
    position = read_policy(fleet.database).seq
    fleet.healthy(device_id)
    assert follow_changes(fleet.database, position).position == position


def test_a_device_that_says_nothing_until_its_deadline_is_silent(fleet: Fleet) -> None:
    fleet.poll(fleet.enrol("cam"))
    fleet.wait(3599)
    assert mark_silent(fleet.database, now=fleet.now) == 0
    fleet.wait(1)
    assert mark_silent(fleet.database, now=fleet.now) == 1
    [outcome] = rows(fleet, tables.outcome)
    assert (outcome.state, outcome.decided_at) == ("silent", fleet.now)


def test_a_device_that_answered_is_never_marked_silent(fleet: Fleet) -> None:
    fleet.healthy(fleet.enrol("cam"))
    assert mark_silent(fleet.database, now=fleet.now + timedelta(days=9)) == 0


def test_a_silent_device_that_answers_late_corrects_the_record(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.poll(device_id)
    fleet.wait(4000)
    mark_silent(fleet.database, now=fleet.now)
    fleet.healthy(device_id)
    assert [one.state for one in rows(fleet, tables.outcome)] == ["healthy"]


def test_a_renewed_assignment_is_decided_by_a_word_under_its_new_counter(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    fleet.poll(device_id)
    fleet.wait(25 * 3600)
    fleet.healthy(device_id)
    assert [one.state for one in rows(fleet, tables.outcome)] == ["healthy"]


def test_one_run_marks_no_more_outcomes_than_it_may(fleet: Fleet) -> None:
    for number in range(3):
        fleet.poll(fleet.enrol(f"cam-{number}"))
    fleet.wait(4000)
    assert [mark_silent(fleet.database, now=fleet.now, outcomes_max=2) for _ in range(3)] == [2, 1, 0]
    with fleet.database.reading() as tx:
        silent = select(func.count()).where(tables.outcome.c.state == "silent")
        assert tx.execute(silent).scalar_one() == 3
