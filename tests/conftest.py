"""Fixtures and marks for every kind of test, and the summary by kind at the end of a run."""

import importlib.util
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store import migrate
from tests.support.services import Postgres, Redis

KINDS = ("e2e", "browser", "simulation", "integration", "contract", "unit")
"""Folders of `tests/`, in the order in which they run: the longest first, so that no worker waits at the end."""

SERIAL_KINDS = ("e2e", "browser")
"""These start fleets of processes and would only disturb each other."""

TESTS = Path(__file__).parent

_numbers = itertools.count(1)


def kind_of(path: Path) -> str:
    """Return the kind of the test in this file: the name of its folder below `tests/`."""
    return path.relative_to(TESTS).parts[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the kinds, and tell xdist what must stay together: a file, and all that is serial."""
    _leave_out_torch(config, items)
    items.sort(key=lambda item: KINDS.index(kind_of(item.path)))
    for item in items:
        kind = kind_of(item.path)
        together = "serial" if kind in SERIAL_KINDS else str(item.path)
        item.add_marker(pytest.mark.xdist_group(together))


def _leave_out_torch(config: pytest.Config, items: list[pytest.Item]) -> None:
    # The environment has no PyTorch, which is larger than all the rest; `./run test` says what is not tried.
    if importlib.util.find_spec("torch"):
        return
    left_out = [item for item in items if item.get_closest_marker("torch")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests of each kind ran, and their seconds (the sum over all processes)."""
    reports = [r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)]
    for kind in reversed(KINDS):
        # A test has three reports: its set-up, itself, and its tear-down.
        of_kind = [report for report in reports if kind_of(TESTS.parent / report.fspath) == kind]
        count = sum(report.when == "call" for report in of_kind)
        seconds = sum(report.duration for report in of_kind)
        if of_kind:
            terminalreporter.write_line(f"{kind:<12}{count:>6} tests {seconds:>8.1f} s")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL server with the database `template_edgefleet`, migrated and without rows."""
    with Postgres() as server:
        migrate.upgrade(server.create_database("template_edgefleet"))
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A private Redis server."""
    with Redis() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file, migrated and without rows."""
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate.upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database that is this test's alone."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'controller.db')}"


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a migrated PostgreSQL database that is this test's alone."""
    name = f"test_{next(_numbers)}"
    yield postgres.create_database(name, template="template_edgefleet")
    postgres.drop_database(name)


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    """The URL of an empty Redis server."""
    redis_server.clear()
    return redis_server.url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database that is this test's alone, once for each engine."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
