"""Bringing a database to the tables this release needs, safely also when several processes start at once.

All pending scripts run in one transaction: afterwards the database is either wholly new or untouched. On
PostgreSQL an advisory lock makes the second process wait and then find nothing left to do; on SQLite the
write lock of BEGIN IMMEDIATE does the same.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

import migrations
from controller.store.database import open_engine, sqlite_path

ADVISORY_LOCK = 0x65646765
"""Names the lock among all advisory locks of the database; any number that nobody else uses."""


class MigrationError(Exception):
    """The database cannot be brought to this release; nothing was changed."""


def upgrade(database_url: str) -> None:
    """Run every script that the database has not seen. Creates an SQLite file and its folder.

    Raises MigrationError when a script would leave rows that refer to nothing, and SQLAlchemy's errors when
    the database cannot be reached.
    """
    _migrate(database_url, lambda config: command.upgrade(config, "head"))


def downgrade(database_url: str, revision: str = "base") -> None:
    """Undo every script after `revision`. What only the newer tables could hold is lost."""
    _migrate(database_url, lambda config: command.downgrade(config, revision))


def current_revision(engine: Engine) -> str | None:
    """Return the newest script that the database has seen, None for an empty database."""
    with engine.connect() as opened:
        connection = opened.execution_options(reads_only=True)
        return MigrationContext.configure(connection).get_current_revision()


def is_current(engine: Engine) -> bool:
    """Tell whether the database has exactly the tables that this release was written for."""
    return current_revision(engine) == _head()


def scripts(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration: the installed scripts, run on this connection."""
    config = Config()
    folder = Path(migrations.__file__).parent
    # Alembic reads the value with configparser, in which a percent sign begins a reference.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@cache
def _head() -> str | None:
    return ScriptDirectory.from_config(scripts()).get_current_head()


def _migrate(database_url: str, run: Callable[[Config], None]) -> None:
    file = sqlite_path(database_url)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
    engine = open_engine(database_url)
    try:
        with engine.connect() as connection:
            (_run_on_sqlite if file else _run_on_server)(connection, run)
    finally:
        engine.dispose()


def _run_on_server(connection: Connection, run: Callable[[Config], None]) -> None:
    with connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADVISORY_LOCK})
        run(scripts(connection))


def _run_on_sqlite(connection: Connection, run: Callable[[Config], None]) -> None:
    # SQLite alters a table by copying and dropping it, which must not follow foreign keys. The pragma is
    # ignored inside a transaction, hence the driver's connection, on which none has begun.
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute("PRAGMA foreign_keys=OFF")
    with connection.begin():
        run(scripts(connection))
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise MigrationError(f"the scripts would leave rows that refer to nothing: {broken[:5]}")
