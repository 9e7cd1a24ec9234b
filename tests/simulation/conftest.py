"""What a simulation needs besides its seed."""

from pathlib import Path
from typing import Protocol

import pytest

from controller.trust.director import Director
from tests.simulation.empty_database import empty_database
from tests.simulation.simulation import Played, play
from tests.simulation.use_cases import UseCases
from tests.support.fleet import plain_director


class PlaySeed(Protocol):
    """Plays a seed on a database of its own."""

    def __call__(self, seed: int, use_cases: UseCases | None = None) -> Played:
        """Play to the end; InvariantBrokenError at the first breach of a rule."""


@pytest.fixture(scope="session")
def director() -> Director:
    """A director. Its keys are new in every run, and decide nothing."""
    return plain_director()


@pytest.fixture
def play_seed(sqlite_template: Path, tmp_path: Path, director: Director) -> PlaySeed:
    """Plays a seed on a database of its own."""

    def played(seed: int, use_cases: UseCases | None = None) -> Played:
        with empty_database(sqlite_template, tmp_path / "simulation.db") as engine:
            return play(seed, engine, director, use_cases)

    return played
