"""Queries that apply what devices report."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import and_, bindparam, func, insert, or_, select, update

from controller.domain.assignments import OutcomeState
from controller.domain.ids import DeviceId, VariantId, VersionId
from controller.domain.observations import Decision, LatestOutcome, OutcomeKey, RunningSlot, SlotKey
from controller.store import tables
from controller.store.database import Transaction, upsert
from device_agent.protocol.messages import ServingItem

_batch, _slot, _outcome, _refusal = tables.report_batch, tables.device_slot, tables.outcome, tables.refusal
_variant = tables.variant

BatchKey = tuple[DeviceId, str]
"""A device and the id it gave to a batch."""


def insert_batches(tx: Transaction, keys: Iterable[BatchKey], now: datetime) -> set[BatchKey]:
    """Remember the batches; return those that had not been seen before."""
    rows = [{"device_id": device_id, "batch": batch, "received_at": now} for device_id, batch in keys]
    statement = upsert(tx, _batch).on_conflict_do_nothing().returning(_batch.c.device_id, _batch.c.batch)
    return {(DeviceId(row.device_id), row.batch) for row in tx.execute(statement, rows)}


def insert_serving(tx: Transaction, items: Sequence[tuple[DeviceId, ServingItem]]) -> None:
    """Write what slots served."""
    if not items:
        return
    rows = [
        {
            "device_id": device_id,
            "slot": item.slot,
            "manifest_sha256": item.manifest,
            "at": item.at,
            "window_s": item.window_s,
            "requests": item.requests,
            "errors": item.errors,
            "input_bytes": item.input_bytes,
            "latency": item.latency.to_json(),
        }
        for device_id, item in items
    ]
    tx.execute(insert(tables.serving_report), rows)


def variants_of(tx: Transaction, manifests: Iterable[str]) -> dict[str, tuple[VariantId, VersionId]]:
    """Return the variant and version that each known manifest describes."""
    query = select(_variant.c.manifest_sha256, _variant.c.id, _variant.c.version_id)
    rows = tx.execute(query.where(_variant.c.manifest_sha256.in_(sorted(manifests))))
    return {row.manifest_sha256: (VariantId(row.id), VersionId(row.version_id)) for row in rows}


def load_slots(tx: Transaction, ids: Iterable[DeviceId]) -> dict[SlotKey, RunningSlot]:
    """Return what the devices' slots were last said to run."""
    rows = tx.execute(select(_slot).where(_slot.c.device_id.in_(list(ids))))
    return {SlotKey(row.device_id, row.slot): RunningSlot(row.manifest_sha256, row.state) for row in rows}


def save_slots(
    tx: Transaction,
    slots: Mapping[SlotKey, RunningSlot],
    variants: Mapping[str, tuple[VariantId, VersionId]],
    now: datetime,
) -> None:
    """Write what slots run now."""
    if not slots:
        return
    rows = []
    for key, running in slots.items():
        variant_id, version_id = variants.get(running.manifest_sha256 or "", (None, None))
        found = {**vars(running), "variant_id": variant_id, "version_id": version_id, "updated_at": now}
        rows.append({"device_id": key.device_id, "slot": key.slot, **found})
    statement = upsert(tx, _slot)
    changed = {
        name: statement.excluded[name]
        for name in ("manifest_sha256", "variant_id", "version_id", "state", "updated_at")
    }
    tx.execute(statement.on_conflict_do_update(index_elements=["device_id", "slot"], set_=changed), rows)


def latest_outcomes(
    tx: Transaction, ids: Iterable[DeviceId], manifests: Iterable[str]
) -> dict[OutcomeKey, LatestOutcome]:
    """Return the newest outcome of each of the manifests, and of assigned emptiness, in the devices' slots."""
    concerned = or_(_outcome.c.manifest_sha256.in_(sorted(manifests)), _outcome.c.manifest_sha256.is_(None))
    key = (_outcome.c.device_id, _outcome.c.slot, _outcome.c.manifest_sha256)
    newest = (
        select(*key, func.max(_outcome.c.counter).label("counter"))
        .where(_outcome.c.device_id.in_(list(ids)), concerned)
        .group_by(*key)
        .subquery()
    )
    same = and_(
        _outcome.c.device_id == newest.c.device_id,
        _outcome.c.slot == newest.c.slot,
        _outcome.c.counter == newest.c.counter,
    )
    rows = tx.execute(select(*key, _outcome.c.counter, _outcome.c.state).join(newest, same))
    return {
        OutcomeKey(row.device_id, row.slot, row.manifest_sha256): LatestOutcome(row.counter, OutcomeState(row.state))
        for row in rows
    }


def save_decisions(tx: Transaction, decisions: Sequence[Decision], now: datetime) -> None:
    """Write what became of outcomes."""
    if not decisions:
        return
    of = and_(
        _outcome.c.device_id == bindparam("of_device"),
        _outcome.c.counter == bindparam("of_counter"),
        _outcome.c.slot == bindparam("of_slot"),
    )
    rows = [
        {
            "of_device": one.key.device_id,
            "of_counter": one.counter,
            "of_slot": one.key.slot,
            "state": one.state,
            "failure_stage": one.failure_stage,
            "code": one.code,
            "message": one.message,
            "decided_at": now,
        }
        for one in decisions
    ]
    tx.execute(update(_outcome).where(of), rows)


def insert_refusals(tx: Transaction, refused: Mapping[tuple[DeviceId, str], str], now: datetime) -> set[DeviceId]:
    """Remember that devices refuse manifests, each with its code; return the devices for which that is new."""
    if not refused:
        return set()
    rows = [
        {"device_id": device_id, "manifest_sha256": manifest, "code": code, "at": now}
        for (device_id, manifest), code in sorted(refused.items())
    ]
    statement = upsert(tx, _refusal).on_conflict_do_nothing().returning(_refusal.c.device_id)
    return {DeviceId(found) for found in tx.execute(statement, rows).scalars()}
