"""Queries about pins and rollouts. Advancing or aborting a rollout writes one row, whatever the fleet's size."""

from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, insert, or_, select, update

from controller.domain.desired_state import Pin
from controller.domain.errors import NotFound
from controller.domain.gates import GatePolicy, OutcomeCounts
from controller.domain.ids import GroupId, ModelId, PinId, RolloutId, VersionId
from controller.domain.rollout import OPEN_STATES, Rollout, RolloutState
from controller.domain.stages import Stage
from controller.store import tables
from controller.store.database import upsert

_rollout, _model, _pin, _outcome, _slot = (
    tables.rollout,
    tables.model,
    tables.pin,
    tables.outcome,
    tables.device_slot,
)
_rollouts = select(_rollout, _model.c.name.label("model")).join(_model, _model.c.id == _rollout.c.model_id)


def rollout_by_id(tx: Connection, rollout_id: str, *, lock: bool = False) -> tuple[Rollout, str]:
    """Return the rollout and its stored explanation; NotFound names the id. `lock` keeps other writers out."""
    query = _rollouts.where(_rollout.c.id == rollout_id)
    row = tx.execute(query.with_for_update(of=_rollout) if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"there is no rollout {rollout_id!r}", code="rollout_unknown")
    return as_rollout(row), row.explanation


def rollouts_in(tx: Connection, states: Iterable[RolloutState]) -> list[Rollout]:
    """Return the rollouts in any of the states, oldest first."""
    return _read(tx, _rollouts.where(_rollout.c.state.in_(list(states))))


def rollouts_that_matter(tx: Connection) -> list[Rollout]:
    """Return what the desired state depends on: open rollouts, and aborted ones with nothing to go back to."""
    aborted_first = and_(_rollout.c.state == RolloutState.ABORTED, _rollout.c.from_version_id.is_(None))
    is_open = _rollout.c.state.in_(list(OPEN_STATES))
    return _read(tx, _rollouts.where(or_(is_open, aborted_first)))


def insert_rollout(tx: Connection, rollout: Rollout, explanation: str) -> None:
    """Write a new rollout."""
    tx.execute(
        insert(_rollout).values(
            id=rollout.id,
            model_id=rollout.model_id,
            group_id=rollout.group_id,
            from_version_id=rollout.from_version,
            to_version_id=rollout.to_version,
            state=rollout.state,
            stages=[asdict(stage) for stage in rollout.stages],
            stage=rollout.stage,
            gate=asdict(rollout.gate),
            explanation=explanation,
            generation=rollout.generation,
            created_at=rollout.created_at,
            state_since=rollout.state_since,
            proposed_by=rollout.proposed_by,
            proposed_with=rollout.proposed_with,
            approved_by=rollout.approved_by,
            dev_only=rollout.dev_only,
        )
    )


def save_rollout(tx: Connection, rollout: Rollout, explanation: str) -> None:
    """Write what may change in a rollout: one row."""
    changed = update(_rollout).where(_rollout.c.id == rollout.id)
    tx.execute(
        changed.values(
            state=rollout.state,
            stage=rollout.stage,
            generation=rollout.generation,
            state_since=rollout.state_since,
            approved_by=rollout.approved_by,
            explanation=explanation,
        )
    )


def keep_approval(tx: Connection, rollout_id: RolloutId, approval: str) -> None:
    """Keep the signed approval with its rollout."""
    tx.execute(update(_rollout).where(_rollout.c.id == rollout_id).values(approval=approval))


def approvals_of_versions(tx: Connection, version_ids: Collection[VersionId]) -> tuple[bytes, ...]:
    """Return the signed approvals of all rollouts of these versions, the newest first: pins live on from them."""
    if not version_ids:
        return ()
    found = (
        select(_rollout.c.approval)
        .where(_rollout.c.to_version_id.in_(sorted(version_ids)), _rollout.c.approval.is_not(None))
        .order_by(_rollout.c.created_at.desc())
    )
    return tuple(row.approval.encode() for row in tx.execute(found))


def count_outcomes(tx: Connection, rollout_id: RolloutId) -> OutcomeCounts:
    """Count the devices that took the rollout, each by its latest outcome."""
    latest = (
        select(_outcome.c.device_id, func.max(_outcome.c.counter).label("counter"))
        .where(_outcome.c.rollout_id == rollout_id)
        .group_by(_outcome.c.device_id)
        .subquery()
    )
    same = and_(_outcome.c.device_id == latest.c.device_id, _outcome.c.counter == latest.c.counter)
    counted = (
        select(_outcome.c.state, func.count())
        .join(latest, same)
        .where(_outcome.c.rollout_id == rollout_id)
        .group_by(_outcome.c.state)
    )
    found = tx.execute(counted).all()
    return OutcomeCounts(**{row[0]: row[1] for row in found})


def count_not_back(tx: Connection, rollout: Rollout) -> int:
    """Count devices that took the rollout and have not been seen to run another version since."""
    later = _outcome.alias("later")
    decided_since = exists().where(
        later.c.device_id == _outcome.c.device_id,
        later.c.slot == _outcome.c.slot,
        later.c.counter > _outcome.c.counter,
        later.c.state.in_(["healthy", "failed"]),
    )
    undecided = and_(_outcome.c.state.in_(["taken", "silent"]), ~decided_since)
    runs_it = _slot.c.version_id == rollout.to_version
    of_device = and_(_slot.c.device_id == _outcome.c.device_id, _slot.c.slot == _outcome.c.slot)
    waiting = (
        select(func.count(func.distinct(_outcome.c.device_id)))
        .select_from(_outcome.outerjoin(_slot, of_device))
        .where(_outcome.c.rollout_id == rollout.id, or_(runs_it, undecided))
    )
    return tx.execute(waiting).scalar_one()


def all_pins(tx: Connection) -> tuple[Pin, ...]:
    """Return every pin."""
    query = select(_pin, _model.c.name.label("model")).join(_model, _model.c.id == _pin.c.model_id)
    return tuple(
        Pin(
            id=PinId(row.id),
            model=row.model,
            group_id=GroupId(row.group_id),
            version_id=VersionId(row.version_id),
            decided_at=row.decided_at,
            soak_s=row.soak_s,
            dev_only=row.dev_only,
        )
        for row in tx.execute(query)
    )


def put_pin(
    tx: Connection,
    pin_id: PinId,
    model_id: ModelId,
    group_id: GroupId,
    version_id: VersionId,
    *,
    soak_s: float,
    dev_only: bool = False,
    now: datetime,
) -> PinId:
    """Set the pin of (model, group); return its id, which stays the same when the pin moves."""
    decided = {"version_id": version_id, "soak_s": soak_s, "dev_only": dev_only, "decided_at": now}
    change = upsert(tx, _pin).values(id=pin_id, model_id=model_id, group_id=group_id, **decided)
    moved = change.on_conflict_do_update(index_elements=["model_id", "group_id"], set_=decided)
    return PinId(tx.execute(moved.returning(_pin.c.id)).scalar_one())


def delete_pin(tx: Connection, pin_id: str) -> None:
    """Remove a pin; NotFound names the id."""
    if not tx.execute(_pin.delete().where(_pin.c.id == pin_id)).rowcount:
        raise NotFound(f"there is no pin {pin_id!r}", code="pin_unknown")


def _read(tx: Connection, query: Select[Any]) -> list[Rollout]:
    return [as_rollout(row) for row in tx.execute(query.order_by(_rollout.c.created_at))]


def as_rollout(row: Any) -> Rollout:
    """Return the domain's rollout of a row that also carries the model's name as `model`."""
    return Rollout(
        id=RolloutId(row.id),
        model_id=ModelId(row.model_id),
        model=row.model,
        group_id=GroupId(row.group_id),
        from_version=row.from_version_id and VersionId(row.from_version_id),
        to_version=VersionId(row.to_version_id),
        state=RolloutState(row.state),
        stages=tuple(Stage(**stage) for stage in row.stages),
        stage=row.stage,
        gate=GatePolicy(**row.gate),
        generation=row.generation,
        created_at=row.created_at,
        state_since=row.state_since,
        proposed_by=row.proposed_by or "operator",
        proposed_with=row.proposed_with or "",
        approved_by=row.approved_by,
        dev_only=row.dev_only,
    )
