from collections.abc import Callable
from dataclasses import replace

import pytest

from controller.domain.assignments import OutcomeState
from controller.domain.gates import OutcomeCounts
from controller.domain.ids import DeviceId, RolloutId
from tests.simulation import broken_rules, final_invariants, invariants
from tests.simulation.conftest import PlaySeed
from tests.simulation.final_invariants import FinalInvariant
from tests.simulation.invariants import Invariant
from tests.simulation.observation import Observation, Outcome, OutcomeKey
from tests.simulation.simulation import InvariantBrokenError
from tests.simulation.use_cases import UseCases
from tests.support.fleet import START

SEEDS = 15
"""Within so many seeds every broken rule is noticed."""


def what_notices(play_seed: PlaySeed, broken: UseCases, first_seed: int) -> str | None:
    """Return the first rule that is breached."""
    for seed in range(first_seed, first_seed + SEEDS):
        try:
            play_seed(seed, broken)
        except InvariantBrokenError as error:
            return error.invariant
    return None


@pytest.mark.parametrize(
    ("broken", "first_seed", "rule"),
    [
        # The seed is one that shows it soon.
        (broken_rules.with_open_gates, 0, invariants.no_stage_exceeds_its_cut_off),
        (broken_rules.pinning_the_newest, 6, invariants.nothing_is_assigned_without_a_source),
        (broken_rules.forgetting_refusals, 4, invariants.no_refused_manifest_is_assigned),
        (broken_rules.without_pauses, 3, invariants.only_a_running_rollout_is_given),
        (broken_rules.without_approvals, 0, invariants.nothing_is_assigned_without_a_source),
        (broken_rules.on_a_clock_that_runs_backwards, 0, invariants.counters_rise),
        (broken_rules.silencing_the_healthy, 0, invariants.what_is_decided_stays_decided),
        (broken_rules.deciding_twice, 1, invariants.histories_follow_the_table),
        (broken_rules.never_advancing, 0, invariants.every_rollout_ends),
        (broken_rules.never_silencing, 7, invariants.nobody_is_waited_for_in_vain),
        (broken_rules.without_aborts, 0, invariants.whoever_asks_leaves_an_aborted_version),
        (broken_rules.believing_failures, 6, final_invariants.outcomes_are_what_devices_remember),
        (broken_rules.losing_reports, 1, final_invariants.outcomes_are_what_devices_remember),
        (broken_rules.taking_slots_for_empty, 0, final_invariants.slots_are_what_devices_run),
    ],
)
def test_a_broken_rule_is_noticed_by_its_invariant(
    play_seed: PlaySeed, broken: Callable[[], UseCases], first_seed: int, rule: Invariant | FinalInvariant
) -> None:
    assert what_notices(play_seed, broken(), first_seed) == rule.__name__


def test_a_gate_that_reads_other_counts_is_noticed() -> None:
    device, rollout = DeviceId("dv_1"), RolloutId("ro_1")
    failed, healthy = (Outcome(rollout, 0, "m", state, START) for state in (OutcomeState.FAILED, OutcomeState.HEALTHY))
    end = Observation(
        now=START,
        rollouts={},
        histories={},
        outcomes={OutcomeKey(device, 1): failed, OutcomeKey(device, 2): healthy},
        assigned={},
        running={},
        pins=(),
        versions={},
        counts={rollout: OutcomeCounts(healthy=1)},
    )
    assert list(final_invariants.counts_are_a_recount(end, {})) == []
    both = replace(end, counts={rollout: OutcomeCounts(healthy=1, failed=1)})
    assert len(list(final_invariants.counts_are_a_recount(both, {}))) == 1


def test_a_breach_names_the_seed_and_how_to_see_it_again(play_seed: PlaySeed) -> None:
    with pytest.raises(InvariantBrokenError, match="seed 0, step") as breach:
        play_seed(0, broken_rules.with_open_gates())
    assert any("EDGEFLEET_SIMULATION_SEED=0" in note for note in breach.value.__notes__)
