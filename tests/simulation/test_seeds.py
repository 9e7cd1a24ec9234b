import os
from collections import Counter

import pytest

from controller.domain.assignments import OutcomeState
from controller.domain.rollout import RolloutEvent
from tests.simulation.conftest import PlaySeed

SEEDS = 24
"""As many as take about a minute of one core."""
SEEDS_PER_TEST = 3
TELLING_SEEDS = (7, 11, 15)
"""Seeds that meet everything together, and are short."""


def chosen_seeds() -> range:
    """Return EDGEFLEET_SIMULATION_SEED alone, or as many as EDGEFLEET_SIMULATION_SEEDS says."""
    only = os.environ.get("EDGEFLEET_SIMULATION_SEED")
    if only is not None:
        return range(int(only), int(only) + 1)
    return range(int(os.environ.get("EDGEFLEET_SIMULATION_SEEDS", SEEDS)))


def in_blocks(seeds: range) -> list[object]:
    """Cut the seeds into tests that several processes can share."""
    blocks = [seeds[first : first + SEEDS_PER_TEST] for first in range(0, len(seeds), SEEDS_PER_TEST)]
    return [
        pytest.param(block, id=f"{block[0]}-{block[-1]}", marks=pytest.mark.xdist_group(f"seeds-{block[0]}"))
        for block in blocks
    ]


@pytest.mark.parametrize("seeds", in_blocks(chosen_seeds()))
def test_no_fleet_breaks_a_rule(play_seed: PlaySeed, seeds: range) -> None:
    for seed in seeds:
        assert play_seed(seed).trace


def test_a_few_seeds_meet_every_event_and_every_outcome(play_seed: PlaySeed) -> None:
    happened = sum((play_seed(seed).happened for seed in TELLING_SEEDS), Counter[str]())
    assert {*RolloutEvent} | {OutcomeState.HEALTHY, OutcomeState.FAILED, OutcomeState.SILENT} <= {*happened}
