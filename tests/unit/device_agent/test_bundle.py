"""Bundles: what the slots of one assignment tell each other, and the one commit that begins their trials."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_agent.bundle import Bundle, Progress, Share
from device_agent.failure import Failure
from device_agent.journal import Journal, Record, SlotRecord, open_journal
from device_agent.protocol.messages import FailureStage
from device_agent.serving_client import ServingStatus

SICK = Failure(FailureStage.VERIFY, "E_NOT_IN_IMAGE_REPO", "it is not signed there", refuses=False)


@dataclass
class Slot:
    """A slot with a part of the test's choice."""

    name: str
    share: Share | None
    told: list[Failure] = field(default_factory=list)

    def trial(self) -> SlotRecord:
        return SlotRecord(active=self.name * 64)

    def begin(self, serving: ServingStatus) -> None:
        raise AssertionError(f"{serving}: beginning is the caller's")

    def give_up_with(self, failure: Failure) -> None:
        self.told.append(failure)


def slots(**progress: Progress | None) -> dict[str, Slot]:
    return {name: Slot(name, None if value is None else Share(8, value)) for name, value in progress.items()}


def bundle_of(slots: dict[str, Slot], journal: Journal | None = None) -> Bundle:
    return Bundle(journal or Journal(Path("unused"), Record()), slots.values)


def test_a_slot_alone_waits_for_nobody() -> None:
    found = slots(a=Progress.READY)
    assert bundle_of(found).is_at_least(found["a"], Progress.READY)


@pytest.mark.parametrize(("other", "passes"), [(Progress.BEGUN, False), (Progress.VERIFIED, True), (None, True)])
def test_a_slot_waits_for_others_that_change_and_for_no_others(other: Progress | None, *, passes: bool) -> None:
    found = slots(a=Progress.VERIFIED, b=other)
    assert bundle_of(found).is_at_least(found["a"], Progress.VERIFIED) is passes


def test_slots_of_another_assignment_are_another_bundle() -> None:
    found = slots(a=Progress.READY)
    found["b"] = Slot("b", Share(7, Progress.BEGUN))
    bundle = bundle_of(found)
    assert bundle.is_at_least(found["a"], Progress.READY)
    bundle.break_up(found["b"], SICK)
    assert found["a"].told == []


def test_the_others_are_told_who_gave_up_and_why_and_refuse_nothing() -> None:
    found = slots(a=Progress.VERIFIED, b=Progress.BEGUN, c=None)
    bundle_of(found).break_up(found["a"], SICK)
    (told,) = found["b"].told
    assert (told.stage, told.code, told.refuses) == (FailureStage.VERIFY, "E_PARTIAL_BUNDLE", False)
    assert told.message == "slot a of the same assignment: E_NOT_IN_IMAGE_REPO: it is not signed there"
    assert found["a"].told == found["c"].told == []


def test_all_trials_begin_with_one_commit(tmp_path: Path) -> None:
    commits = []

    class Counting(Journal):
        def commit(self, record: Record) -> None:
            commits.append(record)
            super().commit(record)

    journal = Counting(tmp_path / "state", Record())
    found = slots(a=Progress.READY, b=Progress.READY, c=None)
    together = bundle_of(found, journal).commit_trials(found["b"])
    assert [member.name for member in together] == ["a", "b"]
    assert len(commits) == 1
    assert set(open_journal(tmp_path / "state").record.slots) == {"a", "b"}


def test_a_commit_that_fails_begins_no_trial(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "state")
    (tmp_path / "state.tmp").mkdir()
    found = slots(a=Progress.READY, b=Progress.READY)
    with pytest.raises(OSError, match="state"):
        bundle_of(found, journal).commit_trials(found["a"])
    assert journal.record == Record()
