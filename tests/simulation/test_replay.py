import os
import subprocess
import sys

from tests.simulation.conftest import PlaySeed

SEED = 0


def steps_in_another_process(hash_seed: int) -> list[str]:
    """Play the seed where Python puts sets into another order."""
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    command = [sys.executable, "-m", "tests.simulation", str(SEED)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_seed_plays_the_same_again_and_in_another_process(play_seed: PlaySeed) -> None:
    first = play_seed(SEED)
    assert play_seed(SEED).trace == first.trace
    *steps, _summary = steps_in_another_process(hash_seed=1)
    assert tuple(steps) == first.trace


def test_another_seed_is_another_fleet(play_seed: PlaySeed) -> None:
    assert play_seed(SEED).trace != play_seed(SEED + 1).trace
