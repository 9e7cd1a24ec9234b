from dataclasses import replace
from datetime import timedelta

import pytest

from controller.domain.gates import OutcomeCounts
from controller.domain.planner import Plan, RolloutSnapshot, plan
from controller.domain.rollout import Rollout, RolloutEvent, RolloutState, transition
from tests.support.decisions import NOW, a_rollout

NO_OUTCOMES = OutcomeCounts()


def planned(
    rollout: Rollout, counts: OutcomeCounts = NO_OUTCOMES, *, not_back: int = 0, at: timedelta = timedelta(0)
) -> Plan:
    return plan(RolloutSnapshot(rollout, counts, not_back), NOW + at)


def test_a_stage_without_evidence_waits_and_says_for_how_many() -> None:
    assert planned(a_rollout()) == Plan(None, "stage 1 of 2 waits: 0 of 5 devices healthy, 4 more needed")


def test_a_waiting_stage_says_how_many_devices_are_at_work() -> None:
    assert planned(a_rollout(), OutcomeCounts(taken=2, healthy=3)) == Plan(
        None, "stage 1 of 2 waits: 3 of 5 devices healthy, 1 more needed; 2 at work"
    )


def test_a_stage_with_enough_healthy_devices_passes() -> None:
    assert planned(a_rollout(), OutcomeCounts(healthy=4)) == Plan(
        RolloutEvent.STAGE_PASSED, "stage 1 of 2 passed: 4 of 5 devices healthy"
    )


def test_the_next_stage_counts_the_devices_of_the_stages_before_it() -> None:
    """Stages are cumulative: 4 healthy devices of the first stage are 4 of the 8 that the second needs."""
    assert planned(a_rollout(stage=1), OutcomeCounts(healthy=4)) == Plan(
        None, "stage 2 of 2 waits: 4 of 10 devices healthy, 4 more needed"
    )


def test_the_last_stage_ends_the_rollout() -> None:
    assert planned(a_rollout(stage=1), OutcomeCounts(healthy=8)) == Plan(
        RolloutEvent.LAST_STAGE_PASSED, "every stage passed: 8 of 10 devices healthy"
    )


def test_too_many_failures_abort_the_rollout() -> None:
    assert planned(a_rollout(), OutcomeCounts(healthy=3, failed=1, silent=1)) == Plan(
        RolloutEvent.GATE_FAILED, "stage 1 of 2 failed: 1 failed and 1 fell silent of 5 devices; 1 are tolerated"
    )


def test_a_paused_rollout_does_not_pass_its_stage_however_good_the_evidence() -> None:
    paused = a_rollout(state=RolloutState.PAUSED)
    assert planned(paused, OutcomeCounts(healthy=5), at=timedelta(minutes=3)) == Plan(
        None, "paused by a person 3 minutes ago: no further device is given the version"
    )


def test_a_paused_rollout_still_aborts_when_its_devices_fail() -> None:
    paused = a_rollout(state=RolloutState.PAUSED)
    assert planned(paused, OutcomeCounts(failed=2)) == Plan(
        RolloutEvent.GATE_FAILED, "failed while paused: 2 failed and 0 fell silent of 5 devices; 1 are tolerated"
    )


def test_an_aborting_rollout_waits_for_the_devices_that_are_not_back() -> None:
    reverting = a_rollout(state=RolloutState.REVERTING)
    assert planned(reverting, OutcomeCounts(failed=2), not_back=3) == Plan(
        None, "aborting: 2 hit; waits for 3 to go back"
    )


def test_an_aborting_rollout_ends_when_every_device_is_back() -> None:
    reverting = a_rollout(state=RolloutState.REVERTING)
    assert planned(reverting, OutcomeCounts(failed=2)) == Plan(
        RolloutEvent.REVERTED, "aborted: 2 hit, and every device is back"
    )


@pytest.mark.parametrize(
    ("seconds", "event"), [(599, None), (600, RolloutEvent.REVERTED), (86_400, RolloutEvent.REVERTED)]
)
def test_an_aborting_rollout_waits_for_silent_devices_no_longer_than_the_gate_says(
    seconds: int, event: RolloutEvent | None
) -> None:
    reverting = a_rollout(state=RolloutState.REVERTING)
    found = planned(reverting, OutcomeCounts(silent=1), not_back=1, at=timedelta(seconds=seconds))
    assert found.event == event


def test_an_abort_that_ended_without_every_answer_says_how_many_are_missing() -> None:
    found = planned(a_rollout(state=RolloutState.REVERTING), not_back=3, at=timedelta(hours=1))
    assert found.explanation == "aborted: 0 hit, 3 have not answered since"


def test_a_proposed_rollout_waits_for_another_person_whatever_the_counts() -> None:
    proposed = a_rollout(state=RolloutState.PROPOSED, proposed_by="alice")
    told = "proposed by alice: waits until another person approves it (edgefleet rollout approve ro_1)"
    assert planned(proposed, OutcomeCounts(failed=10), at=timedelta(days=30)) == Plan(None, told)


@pytest.mark.parametrize("state", [RolloutState.SUCCEEDED, RolloutState.ABORTED])
def test_nothing_is_due_for_a_rollout_that_has_ended(state: RolloutState) -> None:
    assert planned(a_rollout(state=state), OutcomeCounts(failed=10), not_back=5).event is None


@pytest.mark.parametrize("state", RolloutState)
@pytest.mark.parametrize("healthy", [0, 5, 10])
@pytest.mark.parametrize("failed", [0, 5])
@pytest.mark.parametrize("stage", [0, 1])
def test_whatever_is_planned_is_a_move_that_the_table_allows(
    state: RolloutState, healthy: int, failed: int, stage: int
) -> None:
    due = planned(a_rollout(state=state, stage=stage), OutcomeCounts(healthy=healthy, failed=failed)).event
    if due is not None:
        assert transition(state, due) in RolloutState


def test_planning_twice_on_the_same_facts_plans_the_same() -> None:
    snapshot = RolloutSnapshot(a_rollout(), OutcomeCounts(healthy=4), 0)
    assert plan(snapshot, NOW) == plan(snapshot, NOW)


def test_once_a_passed_stage_is_written_the_same_counts_wait_for_the_next() -> None:
    counts = OutcomeCounts(healthy=4)
    assert planned(a_rollout(), counts).event == RolloutEvent.STAGE_PASSED
    assert planned(replace(a_rollout(), stage=1), counts).event is None
