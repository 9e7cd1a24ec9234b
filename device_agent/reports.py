"""The report spool: reports wait in SQLite until the controller has them, and count once however often they are sent.

A batch is *cut* (a row says up to which item it reaches, under an id of its own) before it is sent, and its items
are deleted when it is acknowledged. The controller applies a batch id once, so sending again is harmless, and
a cut batch never changes. The cut must be durable before the send: with a lost cut the same items would leave
again under another id and count twice. Hence `synchronous=FULL`.

The spool has a random name of its own and numbers its batches from 1, without gaps. Two machines that work under one
key, a copied disk for instance, cannot both go on counting without the controller noticing.

The spool is bounded. When it is full the oldest items go, but never those of a cut batch, and the next batch
says how many were dropped.
"""

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from device_agent.protocol.messages import REPORT_BYTES_MAX, REPORT_ITEMS_MAX, ReportItem

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS batch (id TEXT PRIMARY KEY, boot TEXT NOT NULL, last_item INTEGER NOT NULL,
                                  dropped INTEGER NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS dropped (count INTEGER NOT NULL);
INSERT INTO dropped SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM dropped);
CREATE TABLE IF NOT EXISTS spool (id TEXT NOT NULL, last_seq INTEGER NOT NULL);
"""
_ENVELOPE_BYTES = 1024
"""Room for the batch's own fields."""


@dataclass(frozen=True)
class CutBatch:
    """A batch that is durably cut: the same bytes on every attempt."""

    id: str
    body: bytes


class ReportSpool:
    """The reports of one device that are not acknowledged yet."""

    def __init__(self, path: Path, boot: str, items_max: int, device: str) -> None:
        """Open or create the spool; a file that SQLite cannot read is put aside: reports are not worth a stop."""
        self._boot = boot
        self._items_max = items_max
        self._device = device
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError:
            path.replace(path.with_name(path.name + ".damaged"))
            for extra in ("-wal", "-shm"):
                path.with_name(path.name + extra).unlink(missing_ok=True)
            self._database = _open(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def add(self, items: Sequence[ReportItem]) -> None:
        """Keep the items durably, at the cost of the oldest ones when the spool is full."""
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO item (body) VALUES (?)", [(json.dumps(item.to_json()),) for item in items]
            )
            (count,) = database.execute("SELECT count(*) FROM item").fetchone()
            self._drop_oldest(count - self._items_max)

    def cut(self) -> CutBatch | None:
        """Return the batch to send now: the one already cut, or a new one; None when there is nothing to say."""
        with self._transaction() as database:
            row = database.execute("SELECT id, boot, last_item, dropped, seq FROM batch").fetchone()
            if row is None:
                row = self._cut_new()
            return None if row is None else CutBatch(row[0], self._body(*row))

    def acknowledge(self, batch: str) -> None:
        """Forget a batch that the controller has, or can never accept."""
        with self._transaction() as database:
            row = database.execute("SELECT last_item FROM batch WHERE id = ?", (batch,)).fetchone()
            if row is not None:
                database.execute("DELETE FROM item WHERE id <= ?", row)
                database.execute("DELETE FROM batch")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def _drop_oldest(self, count: int) -> None:
        if count <= 0:
            return
        dropped = self._database.execute(
            "DELETE FROM item WHERE id IN (SELECT id FROM item"
            " WHERE id > coalesce((SELECT max(last_item) FROM batch), 0) ORDER BY id LIMIT ?)",
            (count,),
        ).rowcount
        self._database.execute("UPDATE dropped SET count = count + ?", (dropped,))

    def _cut_new(self) -> tuple[str, str, int, int, int] | None:
        last_item, room = None, REPORT_BYTES_MAX - _ENVELOPE_BYTES
        rows = self._database.execute("SELECT id, body FROM item ORDER BY id LIMIT ?", (REPORT_ITEMS_MAX,))
        for item, body in rows.fetchall():
            room -= len(body.encode()) + 2
            if room < 0:
                break
            last_item = item
        if last_item is None:
            return None
        (dropped,) = self._database.execute("SELECT count FROM dropped").fetchone()
        (seq,) = self._database.execute("UPDATE spool SET last_seq = last_seq + 1 RETURNING last_seq").fetchone()
        row = (secrets.token_hex(16), self._boot, last_item, dropped, seq)
        self._database.execute("INSERT INTO batch (id, boot, last_item, dropped, seq) VALUES (?, ?, ?, ?, ?)", row)
        self._database.execute("UPDATE dropped SET count = 0")
        return row

    def _body(self, batch: str, boot: str, last_item: int, dropped: int, seq: int) -> bytes:
        rows = self._database.execute("SELECT body FROM item WHERE id <= ? ORDER BY id", (last_item,))
        items = [json.loads(body) for (body,) in rows]
        (spool,) = self._database.execute("SELECT id FROM spool").fetchone()
        head = {"schema": 1, "batch": batch, "boot": boot, "dropped": dropped, "items": items}
        return json.dumps({**head, "device": self._device, "spool": spool, "seq": seq}).encode()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("PRAGMA wal_autocheckpoint=256")
        database.execute("PRAGMA journal_size_limit=1048576")
        database.executescript(_SCHEMA)
        _upgrade(database)
    except BaseException:
        database.close()
        raise
    return database


def _upgrade(database: sqlite3.Connection) -> None:
    """Give the spool its name on its first opening; an older agent's spool may hold a batch that has no number yet."""
    if "seq" not in {column[1] for column in database.execute("PRAGMA table_info(batch)")}:
        database.execute("ALTER TABLE batch ADD COLUMN seq INTEGER NOT NULL DEFAULT 1")
    statement = "INSERT INTO spool SELECT ?, (SELECT count(*) FROM batch) WHERE NOT EXISTS (SELECT 1 FROM spool)"
    database.execute(statement, (secrets.token_hex(16),))
