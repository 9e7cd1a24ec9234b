"""Connections and transactions: one engine, one transaction per request or task, one commit at the edge."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine, create_engine, event, insert, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from controller.domain.errors import Unavailable
from controller.domain.ids import DeviceId
from controller.store import tables

Transaction: TypeAlias = Connection
"""An open transaction: what every query takes and no query ends."""
BUSY_TIMEOUT_S = 15
"""How long a writer waits for the other writer on SQLite before it gives up."""


def open_engine(url: str, *, pool_size: int = 5) -> Engine:
    """Return an engine for `sqlite:///path` or `postgresql://...`, set up so that no update is lost."""
    if make_url(url).get_backend_name() == "sqlite":
        return _open_sqlite(url, pool_size)
    return create_engine(url, pool_size=pool_size, max_overflow=5, pool_pre_ping=True)


def _open_sqlite(url: str, pool_size: int) -> Engine:
    # isolation_level None: the driver must not begin transactions, or read-then-write loses updates silently.
    arguments = {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False}
    engine = create_engine(url, connect_args=arguments, pool_size=pool_size, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only")
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


class Database:
    """Hands out transactions. `writing()` commits at its end, `reading()` sees one snapshot and commits nothing."""

    def __init__(self, engine: Engine) -> None:
        """Take the engine of `open_engine`."""
        self.engine = engine

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that is committed when the block ends and rolled back when it raises."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except OperationalError as error:
            raise _unavailable(error) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction in which every query sees the same state of the database."""
        level = {} if self.engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        try:
            with self.engine.connect() as opened:
                connection = opened.execution_options(reads_only=True, **level)
                with connection.begin():
                    yield connection
        except OperationalError as error:
            raise _unavailable(error) from error


def _unavailable(error: OperationalError) -> Unavailable:
    return Unavailable(f"the database did not answer: {error.orig}; try again", code="database_unavailable")


def record_change(connection: Connection, now: datetime, devices: Sequence[DeviceId] | None = None) -> int:
    """Tell every API process that these devices' facts, or the policy (None), have changed; return the sequence.

    Must be the last write of its transaction: the counter's row is locked until the commit, which makes the
    order of the log the order of the commits. A plain autoincrement would not: a reader could pass over a number
    whose transaction commits late.
    """
    if devices is not None and not devices:
        return 0
    count = 1 if devices is None else len(devices)
    counter = tables.change_counter
    step = update(counter).where(counter.c.id == 1).values(seq=counter.c.seq + count).returning(counter.c.seq)
    last: int = connection.execute(step).scalar_one()
    first = last - count + 1
    names: Sequence[DeviceId | None] = [None] if devices is None else devices
    rows = [{"seq": first + offset, "device_id": name, "at": now} for offset, name in enumerate(names)]
    connection.execute(insert(tables.change_log), rows)
    return last


def upsert(connection: Connection, table: Any) -> Any:
    """Return the dialect's INSERT that knows ON CONFLICT."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def add_event(connection: Connection, now: datetime, actor: str, kind: str, subject: str, message: str) -> None:
    """Write one line of history: who did what to which thing."""
    row = {"at": now, "actor": actor, "kind": kind, "subject": subject, "message": message}
    connection.execute(insert(tables.event).values(row))


def check_reachable(engine: Engine) -> float:
    """Run the smallest query; return its seconds. Raises Unavailable."""
    started = time.monotonic()
    try:
        with engine.connect() as connection:
            connection.execution_options(reads_only=True).execute(text("SELECT 1"))
    except OperationalError as error:
        raise _unavailable(error) from error
    return time.monotonic() - started


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite URL, None for a server's."""
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
