"""Databases and a director for simulations."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from controller.store.database import open_engine
from controller.trust.director import Director, open_director
from controller.trust.keys import KeyStore
from tests.simulation.simulation import Played, play
from tests.simulation.use_cases import UseCases
from tests.support.fleet import START

Play = Callable[..., Played]


@pytest.fixture(scope="session")
def director(tmp_path_factory: pytest.TempPathFactory) -> Director:
    """A director; its keys decide nothing."""
    directory = tmp_path_factory.mktemp("director")
    return open_director(directory, KeyStore(directory / "keys").signer, START)


@pytest.fixture
def play_seed(sqlite_template: Path, tmp_path: Path, director: Director) -> Callable[..., Played]:
    """Play a seed on a fresh SQLite database, `play_seed(seed)` or `play_seed(seed, use_cases)`."""

    def fresh(seed: int, use_cases: UseCases | None = None) -> Played:
        with _empty_database(sqlite_template, tmp_path / "simulation.db") as engine:
            return play(seed, engine, director, use_cases)

    return fresh


@contextmanager
def _empty_database(template: Path, file: Path) -> Iterator[Engine]:
    shutil.copy(template, file)
    engine = open_engine(f"sqlite:///{file}")
    # No simulated power cut reaches the controller's disk, so nothing has to wait for it.
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    try:
        yield engine
    finally:
        engine.dispose()
        for left in file.parent.glob(f"{file.name}*"):
            left.unlink()
