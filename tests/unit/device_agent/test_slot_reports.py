"""A slot's reports: each state of an assignment once, and refusals with their history."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent.clock import DeviceClock
from device_agent.failure import Failure
from device_agent.journal import Journal, Record, SlotRecord
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.messages import FailureStage, LifecycleItem, LifecycleState, parse_report_batch
from device_agent.reports import ReportSpool
from device_agent.slot_reports import Job, SlotReporter, Wanted

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD, NEW = "1" * 64, "2" * 64
FAILURE = Failure(FailureStage.HEALTH, "E_HEALTH_COMMAND", "not well", refuses=True)


def wanted(manifest: str, counter: int) -> Wanted:
    return Wanted(counter, SlotAssignment("target", 1, manifest, 0, "test", 1))


class Slot:
    """A slot that runs GOOD and has refused NEW under counter 7."""

    def __init__(self, directory: Path) -> None:
        record = SlotRecord(GOOD, GOOD).refuse(NEW, FAILURE.refusal(7))
        self.journal = Journal(directory / "state", Record({"digits": record}))
        self.spool = ReportSpool(directory / "reports", "boot", 100, "dv_1")
        self.reporter = SlotReporter("digits", self.spool, self.journal, DeviceClock(lambda: NOW))

    def said(self) -> list[LifecycleItem]:
        batch = self.spool.cut()
        items = parse_report_batch(batch.body).items if batch else ()
        return [item for item in items if isinstance(item, LifecycleItem)]


@pytest.fixture
def slot(tmp_path: Path) -> Iterator[Slot]:
    slot = Slot(tmp_path)
    yield slot
    slot.spool.close()


def test_the_confirmed_manifest_is_healthy_at_once_and_once_per_assignment(slot: Slot) -> None:
    slot.reporter.say_standing(wanted(GOOD, 8))
    slot.reporter.say_standing(wanted(GOOD, 8))
    slot.reporter.say_standing(wanted(GOOD, 9))
    assert [(item.counter, item.state, item.active) for item in slot.said()] == [
        (8, LifecycleState.HEALTHY, GOOD),
        (9, LifecycleState.HEALTHY, GOOD),
    ]


def test_a_refused_manifest_fails_at_once_and_its_first_reason_is_kept(slot: Slot) -> None:
    slot.reporter.say_standing(wanted(NEW, 7))
    slot.reporter.say_standing(wanted(NEW, 8))
    first, again = slot.said()
    assert (first.code, first.message, first.refused) == ("E_HEALTH_COMMAND", "not well", True)
    assert (again.code, again.message) == ("E_REFUSED_BEFORE", "refused before: E_HEALTH_COMMAND: not well")
    assert (again.stage, again.refused, again.active) == (FailureStage.HEALTH, True, GOOD)


def test_what_needs_work_or_names_nothing_is_not_reported_as_standing(slot: Slot) -> None:
    slot.reporter.say_standing(wanted("3" * 64, 8))
    slot.reporter.say_standing(Wanted(9, None))
    assert slot.said() == []


def test_repeated_work_is_said_once_but_another_failure_is_new(slot: Slot) -> None:
    job = Job("3" * 64, 8, 0)
    network = Failure(FailureStage.DOWNLOAD, "E_NETWORK", "cut", refuses=False)
    space = Failure(FailureStage.DOWNLOAD, "E_NO_SPACE", "full", refuses=False)
    for failure in (network, network, space):
        slot.reporter.say(job, LifecycleState.DOWNLOADING)
        slot.reporter.say(job, LifecycleState.FAILED, failure)
    assert [item.code for item in slot.said()] == [None, "E_NETWORK", "E_NO_SPACE"]
