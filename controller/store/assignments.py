"""Queries about assignments and their outcomes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import insert, select, tuple_, update

from controller.domain.assignments import UNDECIDED, OutcomeState
from controller.domain.ids import DeviceId, RolloutId, VersionId
from controller.store import tables
from controller.store.database import Transaction, upsert
from device_agent.protocol.assignment import Assignment

_assignment, _outcome, _slot = tables.assignment, tables.outcome, tables.device_slot


@dataclass(frozen=True)
class StoredAssignment:
    """The last assignment of a device, as it was signed."""

    device_id: DeviceId
    counter: int
    manifests: dict[str, str | None]
    envelope: bytes
    issued_at: datetime


@dataclass(frozen=True)
class NewOutcome:
    """One slot of an assignment that a device is given: what its outcome will be counted for."""

    device_id: DeviceId
    counter: int
    slot: str
    rollout_id: RolloutId | None
    stage: int | None
    version_id: VersionId | None
    manifest_sha256: str | None
    state: OutcomeState
    taken_at: datetime
    silent_at: datetime


def load_assignments(tx: Transaction, ids: Iterable[DeviceId]) -> dict[DeviceId, StoredAssignment]:
    """Return the last assignment of each device that has one."""
    rows = tx.execute(select(_assignment).where(_assignment.c.device_id.in_(list(ids))))
    return {
        DeviceId(row.device_id): StoredAssignment(
            DeviceId(row.device_id),
            row.counter,
            {slot: named and named["sha256"] for slot, named in row.slots.items()},
            row.envelope,
            row.issued_at,
        )
        for row in rows
    }


def outdate_assignments(tx: Transaction) -> None:
    """Have every assignment signed anew at its device's next poll, as after a change of the key that signs them.

    Must be the last write of its transaction: it takes a number of the change log without a row, a gap at which every
    process forgets what it knew. A row for each device would be as many rows as devices.
    """
    tx.execute(update(_assignment).values(issued_at=datetime.fromtimestamp(0, UTC)))
    counter = tables.change_counter
    tx.execute(update(counter).where(counter.c.id == 1).values(seq=counter.c.seq + 1))


def save_assignments(tx: Transaction, signed: Sequence[tuple[Assignment, bytes]]) -> None:
    """Replace the devices' assignments. The devices must be locked, or a counter could go back."""
    rows = [
        {
            "device_id": assignment.device,
            "counter": assignment.counter,
            "slots": {slot: named and vars(named) for slot, named in assignment.slots.items()},
            "envelope": envelope,
            "issued_at": assignment.issued,
        }
        for assignment, envelope in signed
    ]
    statement = upsert(tx, _assignment)
    changed = {name: statement.excluded[name] for name in ("counter", "slots", "envelope", "issued_at")}
    tx.execute(statement.on_conflict_do_update(index_elements=["device_id"], set_=changed), rows)


def insert_outcomes(tx: Transaction, outcomes: Sequence[NewOutcome]) -> None:
    """Write that devices have taken assignments, or were found to have fulfilled them before."""
    if outcomes:
        decided = {OutcomeState.HEALTHY, OutcomeState.FAILED}
        rows = [{**vars(one), "decided_at": one.taken_at if one.state in decided else None} for one in outcomes]
        tx.execute(insert(_outcome), rows)


def manifests_at_rest(tx: Transaction, ids: Iterable[DeviceId]) -> set[tuple[str, str, str]]:
    """Return (device, slot, manifest) where a healthy manifest runs and nothing newer is awaited."""
    awaited = (
        select(_outcome.c.counter)
        .where(_outcome.c.device_id == _slot.c.device_id, _outcome.c.slot == _slot.c.slot)
        .where(_outcome.c.state.in_(UNDECIDED))
    )
    query = select(_slot.c.device_id, _slot.c.slot, _slot.c.manifest_sha256).where(
        _slot.c.device_id.in_(list(ids)), _slot.c.state == OutcomeState.HEALTHY, ~awaited.exists()
    )
    return {(row.device_id, row.slot, row.manifest_sha256) for row in tx.execute(query)}


def silence_outcomes(tx: Transaction, now: datetime, limit: int) -> int:
    """Turn at most `limit` outcomes whose deadline has passed into silent ones; return how many."""
    key = (_outcome.c.device_id, _outcome.c.counter, _outcome.c.slot)
    overdue = (
        select(*key)
        .where(_outcome.c.state == OutcomeState.TAKEN, _outcome.c.silent_at <= now)
        .order_by(_outcome.c.silent_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("overdue")
    )
    fallen = update(_outcome).where(tuple_(*key).in_(select(overdue)))
    # Counted by what comes back: SQLite's driver knows no row count of a statement that begins with WITH.
    marked = tx.execute(fallen.values(state=OutcomeState.SILENT, decided_at=now).returning(_outcome.c.counter))
    return len(marked.all())
