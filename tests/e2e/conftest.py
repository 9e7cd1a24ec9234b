"""Whole installations: a controller of processes in one of the two wirings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import Installation, an_installation, production


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Installation]:
    """A controller that needs nothing installed."""
    with an_installation(tmp_path / "embedded") as running:
        yield running


@pytest.fixture
def on_servers(tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[Installation]:
    """A controller on PostgreSQL and Redis: two API processes and two workers."""
    with an_installation(tmp_path / "production", production(postgres_url, redis_url)) as running:
        yield running


@pytest.fixture(params=["embedded", pytest.param("on_servers", marks=pytest.mark.postgres)])
def installation(request: pytest.FixtureRequest) -> Installation:
    """A controller, once in each wiring."""
    running: Installation = request.getfixturevalue(request.param)
    return running
