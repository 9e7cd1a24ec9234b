"""Reading the change log that `database.record_change` writes: what other processes have changed.

The log has no gaps while nothing is forgotten: the counter grows by exactly the rows that are written with it.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, select

from controller.domain.ids import DeviceId
from controller.store import tables
from controller.store.database import Transaction

ROWS_AT_ONCE = 20_000
_log, _counter = tables.change_log, tables.change_counter


@dataclass(frozen=True)
class LoggedChanges:
    """What the log says after a position."""

    position: int
    """Up to where it was read; the next reading starts here."""
    devices: frozenset[DeviceId]
    policy: bool
    gap: bool
    """Rows after the position were forgotten before they were read: anything may have changed."""


def last_seq(tx: Transaction) -> int:
    """Return the sequence of the last change that this transaction sees."""
    seq: int = tx.execute(select(_counter.c.seq).where(_counter.c.id == 1)).scalar_one()
    return seq


def changes_after(tx: Transaction, position: int) -> LoggedChanges:
    """Read at most ROWS_AT_ONCE changes after the position, in the order of their commits."""
    query = select(_log.c.seq, _log.c.device_id).where(_log.c.seq > position).order_by(_log.c.seq)
    rows = tx.execute(query.limit(ROWS_AT_ONCE)).all()
    if not rows:
        last = last_seq(tx)
        return LoggedChanges(last, frozenset(), policy=False, gap=last > position)
    return LoggedChanges(
        position=rows[-1].seq,
        devices=frozenset(DeviceId(row.device_id) for row in rows if row.device_id is not None),
        policy=any(row.device_id is None for row in rows),
        gap=rows[0].seq != position + 1,
    )


def policy_changed_after(tx: Transaction, seq: int) -> bool:
    """Tell whether the log holds a change of the policy after the sequence."""
    found = exists().where(_log.c.seq > seq, _log.c.device_id.is_(None))
    return bool(tx.execute(select(found)).scalar_one())


def forget_changes(tx: Transaction, before: datetime) -> int:
    """Delete the rows written before the moment; return how many. Readers notice the gap."""
    return tx.execute(delete(_log).where(_log.c.at < before)).rowcount
