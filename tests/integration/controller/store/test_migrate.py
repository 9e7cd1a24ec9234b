import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select
from sqlalchemy.exc import DBAPIError

from controller.store import migrate, tables
from controller.store.database import Database, open_engine
from tests.support.services import Postgres


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that no script has seen."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'controller.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create_database(tmp_path.name)


def table_names(url: str) -> set[str]:
    engine = open_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_after_the_upgrade_the_database_has_exactly_the_declared_tables(database: Database) -> None:
    with database.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []


def test_the_rows_that_everything_relies_on_exist_from_the_start(database: Database) -> None:
    with database.reading() as connection:
        counter = connection.execute(select(tables.change_counter)).one()
        repository = connection.execute(select(tables.image_repository)).one()
        group = connection.execute(select(tables.device_group)).one()

    assert (counter.id, counter.seq) == (1, 0)
    assert (repository.id, repository.published_at) == (1, None)
    assert (group.id, group.name, group.selector) == ("gr_all", "all", "")


def test_an_upgraded_database_is_current_and_an_empty_one_is_not(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    engine = open_engine(empty_url)
    assert (migrate.current_revision(engine), migrate.is_current(engine)) == ("0003", True)
    engine.dispose()

    migrate.downgrade(empty_url)
    engine = open_engine(empty_url)
    assert (migrate.current_revision(engine), migrate.is_current(engine)) == (None, False)
    engine.dispose()


def test_a_downgrade_removes_every_table_and_the_next_upgrade_brings_them_back(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    expected = table_names(empty_url)

    migrate.downgrade(empty_url)
    assert table_names(empty_url) == {"alembic_version"}

    migrate.upgrade(empty_url)
    assert table_names(empty_url) == expected == {*tables.metadata.tables, "alembic_version"}


def test_an_upgrade_makes_the_folder_of_an_sqlite_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'not' / 'there' / 'controller.db'}"
    migrate.upgrade(url)
    assert "device" in table_names(url)


def test_an_upgrade_of_a_current_database_keeps_its_rows(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    engine = open_engine(empty_url)
    with Database(engine).writing() as connection:
        connection.execute(tables.change_counter.update().values(seq=7))

    migrate.upgrade(empty_url)

    with Database(engine).reading() as connection:
        assert connection.execute(select(tables.change_counter.c.seq)).scalar_one() == 7
    engine.dispose()


def test_processes_that_start_at_once_upgrade_the_database_once(empty_url: str) -> None:
    """The second process waits for the first and finds nothing left to do."""
    fresh_processes = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=fresh_processes) as pool:
        # The result is asked for: a process that failed raises here.
        list(pool.map(migrate.upgrade, [empty_url] * 2))

    engine = open_engine(empty_url)
    with Database(engine).reading() as connection:
        assert connection.execute(select(tables.device_group.c.name)).scalars().all() == ["all"]
    engine.dispose()


def test_a_script_that_fails_half_way_leaves_nothing_behind(empty_url: str) -> None:
    """Also on SQLite, whose driver by itself would commit every CREATE TABLE at once."""
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        tables.lease.create(connection)
    engine.dispose()

    with pytest.raises(DBAPIError, match=r"lease.* already exists"):
        migrate.upgrade(empty_url)

    assert table_names(empty_url) == {"lease"}
