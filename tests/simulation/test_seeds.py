"""Seeded fleets with faults: every invariant after every step, and at the end. A failing seed replays exactly."""

import os
from collections.abc import Callable

import pytest

from tests.simulation import broken_rules
from tests.simulation.simulation import InvariantBrokenError, Played
from tests.simulation.use_cases import UseCases

CHOSEN = os.environ.get("EDGEFLEET_SIMULATION_SEED")
SEEDS = [int(CHOSEN)] if CHOSEN else list(range(12))
Play = Callable[..., Played]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fleet_with_faults_keeps_every_invariant_and_comes_to_rest(play_seed: Play, seed: int) -> None:
    assert play_seed(seed).happened["created"] > 0


def test_a_seed_plays_the_same_way_every_time(play_seed: Play) -> None:
    assert play_seed(0) == play_seed(0)


def test_between_them_the_seeds_see_every_kind_of_end(play_seed: Play) -> None:
    happened = play_seed(0).happened + play_seed(1).happened + play_seed(2).happened
    assert {"abort", "gate_failed", "last_stage_passed", "stage_passed", "reverted"} <= set(happened)
    assert {"healthy", "failed", "silent"} <= set(happened)


@pytest.mark.parametrize(
    "broken",
    [
        broken_rules.with_open_gates,
        broken_rules.without_pauses,
        broken_rules.losing_reports,
        broken_rules.restored_from_a_backup,
        broken_rules.silencing_the_healthy,
        broken_rules.deciding_twice,
    ],
    ids=lambda broken: broken.__name__,
)
def test_a_controller_that_breaks_a_rule_is_found_out(play_seed: Play, broken: Callable[[], UseCases]) -> None:
    with pytest.raises(InvariantBrokenError):  # noqa: PT012 - whichever of the seeds meets it first
        for seed in range(6):
            play_seed(seed, broken())
