from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.domain.errors import InvalidInput
from controller.domain.gates import Abort, Advance, GatePolicy, Hold, OutcomeCounts, evaluate_gate, tolerated

POLICY = GatePolicy(success_share=0.8, failure_share=0.2)


@st.composite
def policies(draw: st.DrawFn) -> GatePolicy:
    success = draw(st.integers(1, 100))
    return GatePolicy(success_share=success / 100, failure_share=draw(st.integers(0, 100 - success)) / 100)


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        (OutcomeCounts(), Hold("0 of 10 devices healthy, 8 more needed", 8)),
        (OutcomeCounts(taken=10), Hold("0 of 10 devices healthy, 8 more needed", 8)),
        (OutcomeCounts(taken=3, healthy=7), Hold("7 of 10 devices healthy, 1 more needed", 1)),
        (OutcomeCounts(taken=2, healthy=8), Advance("8 of 10 devices healthy")),
        (OutcomeCounts(healthy=8, failed=2), Advance("8 of 10 devices healthy")),
        (OutcomeCounts(taken=8, failed=2), Hold("0 of 10 devices healthy, 8 more needed", 8)),
        (OutcomeCounts(failed=3), Abort("3 failed and 0 fell silent of 10 devices; 2 are tolerated")),
        (OutcomeCounts(silent=3), Abort("0 failed and 3 fell silent of 10 devices; 2 are tolerated")),
        (OutcomeCounts(failed=2, silent=1), Abort("2 failed and 1 fell silent of 10 devices; 2 are tolerated")),
    ],
)
def test_a_stage_of_ten_devices_advances_holds_or_aborts_by_its_counts(
    counts: OutcomeCounts, verdict: Advance | Hold | Abort
) -> None:
    assert evaluate_gate(POLICY, counts, admitted=10) == verdict


def test_enough_healthy_devices_do_not_outweigh_too_many_lost_ones() -> None:
    """Possible when devices joined late: more than were admitted at first have an outcome."""
    assert isinstance(evaluate_gate(POLICY, OutcomeCounts(healthy=9, failed=3), admitted=10), Abort)


def test_one_failure_ends_a_canary_of_one_device() -> None:
    assert isinstance(evaluate_gate(GatePolicy(), OutcomeCounts(failed=1), admitted=1), Abort)


def test_devices_that_never_fetched_their_assignment_hold_the_stage_and_do_not_fail_it() -> None:
    assert isinstance(evaluate_gate(GatePolicy(), OutcomeCounts(healthy=1), admitted=10), Hold)


@pytest.mark.parametrize(
    ("share", "admitted", "lost"), [(0.1, 9, 0), (0.1, 10, 1), (0.3, 10, 3), (0.29, 100, 29), (0.0, 1000, 0)]
)
def test_the_tolerated_number_is_rounded_down_to_whole_devices(share: float, admitted: int, lost: int) -> None:
    """Also where binary fractions fall just short, as 0.29 * 100 does."""
    assert tolerated(GatePolicy(success_share=0.5, failure_share=share), admitted) == lost


@given(policies(), st.integers(1, 500), st.data())
def test_when_every_admitted_device_has_an_outcome_the_gate_never_holds(
    policy: GatePolicy, admitted: int, data: st.DataObject
) -> None:
    """Otherwise a rollout could wait for ever for evidence that cannot come."""
    lost = data.draw(st.integers(0, admitted))
    silent = data.draw(st.integers(0, lost))
    counts = OutcomeCounts(healthy=admitted - lost, failed=lost - silent, silent=silent)
    assert not isinstance(evaluate_gate(policy, counts, admitted), Hold)


@given(policies(), st.integers(1, 500), st.integers(0, 500), st.integers(0, 500), st.integers(1, 50))
def test_a_further_loss_never_improves_the_verdict(
    policy: GatePolicy, admitted: int, healthy: int, failed: int, more: int
) -> None:
    before = evaluate_gate(policy, OutcomeCounts(healthy=healthy, failed=failed), admitted)
    after = evaluate_gate(policy, OutcomeCounts(healthy=healthy, failed=failed + more), admitted)
    assert isinstance(after, Abort) or type(after) is type(before)


@given(policies(), st.integers(1, 500), st.integers(0, 500))
def test_a_stage_passes_only_with_its_share_of_healthy_devices(policy: GatePolicy, admitted: int, healthy: int) -> None:
    verdict = evaluate_gate(policy, OutcomeCounts(healthy=healthy), admitted)
    assume(not isinstance(verdict, Abort))
    enough = healthy * 100 >= round(policy.success_share * 100) * admitted
    assert isinstance(verdict, Advance) == enough


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"success_share": 1.1}, "/gate/success_share"),
        ({"success_share": -0.1}, "/gate/success_share"),
        ({"success_share": float("nan")}, "/gate/success_share"),
        ({"failure_share": 1.5}, "/gate/failure_share"),
        ({"success_share": 0.9, "failure_share": 0.2}, "/gate/success_share"),
        ({"soak_s": -1}, "/gate/silent_after_s"),
        ({"soak_s": 60, "silent_after_s": 60}, "/gate/silent_after_s"),
        ({"soak_s": 60, "silent_after_s": 30}, "/gate/silent_after_s"),
    ],
)
def test_a_policy_under_which_a_stage_could_not_end_is_refused_with_its_field(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        GatePolicy(**changes)
    assert refused.value.field == field


@pytest.mark.parametrize("shares", [(0.9, 0.1), (0.7, 0.3), (1.0, 0.0), (0.5, 0.1), (0.5 + 1e-12, 0.5)])
def test_shares_that_add_up_to_at_most_one_are_accepted(shares: tuple[float, float]) -> None:
    """Also where rounded fractions add up to a little more."""
    assert GatePolicy(*shares).success_share == shares[0]


def test_a_gate_without_a_soak_is_accepted() -> None:
    assert GatePolicy(soak_s=0, silent_after_s=1).soak_s == 0


def test_a_stage_that_admits_nobody_never_passes() -> None:
    assert isinstance(evaluate_gate(GatePolicy(), OutcomeCounts(), admitted=0), Hold)


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 31 * 86_400.0])
def test_a_deadline_that_is_not_a_time_is_refused(deadline: float) -> None:
    with pytest.raises(InvalidInput, match="silent_after_s"):
        GatePolicy(silent_after_s=deadline)
