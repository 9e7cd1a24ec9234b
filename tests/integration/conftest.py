"""Fixtures of the tests that need a database or processes."""

from collections.abc import Iterator

import pytest

from controller.store.database import Database, open_engine


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database that is this test's alone, once on SQLite and once on PostgreSQL."""
    engine = open_engine(database_url)
    yield Database(engine)
    engine.dispose()
