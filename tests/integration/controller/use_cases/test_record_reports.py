from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, func, select

from controller.domain.ids import DeviceId
from controller.store import tables
from controller.store.database import Database
from controller.store.devices import load_devices
from controller.use_cases.follow_changes import follow_changes, read_policy
from controller.use_cases.mark_silent import mark_silent
from controller.use_cases.record_reports import Receipt, record_reports
from controller.use_cases.set_pin import set_pin
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import (
    FailureStage,
    LifecycleItem,
    LifecycleState,
    ReportBatch,
    ReportItem,
    ServingItem,
)
from tests.support.fleet import Fleet


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Fleet:
    """A fleet that is pinned to version 1."""
    fleet = Fleet.create(database, tmp_path)
    fleet.publish(1)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    return fleet


def rows(fleet: Fleet, table: Table) -> list[Any]:
    with fleet.database.reading() as tx:
        return list(tx.execute(select(table)))


def batch(name: str, *items: ReportItem) -> ReportBatch:
    return ReportBatch(name, "boot", 0, items)


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
    record_reports(fleet.database, [(device_id, batch("b1", served(fleet)))], now=fleet.now)
    [kept] = rows(fleet, tables.serving_report)
    assert (kept.device_id, kept.requests, kept.input_bytes, kept.at) == (device_id, 3, 192, fleet.now)
    assert kept.latency == served(fleet).latency.to_json()


def test_a_batch_is_applied_once_however_often_it_comes(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    sent = (device_id, batch("b1", served(fleet)))
    assert record_reports(fleet.database, [sent, sent], now=fleet.now) == [Receipt.APPLIED, Receipt.DUPLICATE]
    assert record_reports(fleet.database, [sent], now=fleet.now) == [Receipt.DUPLICATE]
    assert len(rows(fleet, tables.serving_report)) == 1


def test_two_devices_may_choose_the_same_name_for_a_batch(fleet: Fleet) -> None:
    sent = [(fleet.enrol(name), batch("b1", served(fleet))) for name in ("one", "two")]
    assert record_reports(fleet.database, sent, now=fleet.now) == [Receipt.APPLIED, Receipt.APPLIED]


def test_a_device_that_does_not_exist_spoils_nobody_elses_report(fleet: Fleet) -> None:
    sent = [(DeviceId("dv_gone"), batch("b1", served(fleet))), (fleet.enrol("cam"), batch("b1", served(fleet)))]
    assert record_reports(fleet.database, sent, now=fleet.now) == [Receipt.DEVICE_UNKNOWN, Receipt.APPLIED]


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
    record_reports(fleet.database, [(device_id, batch("b1", refused(fleet, manifest)))], now=fleet.now)
    with fleet.database.reading() as tx:
        assert load_devices(tx, [device_id])[device_id].refused == {manifest}
    assert follow_changes(fleet.database, position).devices == {device_id}


def test_what_was_never_published_is_not_remembered_as_refused(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    position = read_policy(fleet.database).seq
    record_reports(fleet.database, [(device_id, batch("b1", refused(fleet, "f" * 64)))], now=fleet.now)
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
