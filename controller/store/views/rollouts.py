"""Pins and rollouts as the API shows them."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from controller.domain.rollout import Rollout, RolloutState
from controller.store import tables
from controller.store.rollouts import as_rollout, count_not_back, count_outcomes, rollout_by_id

Document = dict[str, Any]
HIT_DEVICES_SHOWN = 100
_rollout, _model, _group, _version = tables.rollout, tables.model, tables.device_group, tables.model_version


def pins(tx: Connection) -> list[Document]:
    """Return the pins, newest decision first."""
    pin = tables.pin
    query = (
        select(
            pin.c.id,
            _model.c.name.label("model"),
            _version.c.number.label("version"),
            _group.c.name.label("group"),
            pin.c.soak_s,
            pin.c.decided_at,
            pin.c.dev_only,
        )
        .join(_model, _model.c.id == pin.c.model_id)
        .join(_version, _version.c.id == pin.c.version_id)
        .join(_group, _group.c.id == pin.c.group_id)
        .order_by(pin.c.decided_at.desc())
    )
    return [dict(row) for row in tx.execute(query).mappings()]


def rollouts(tx: Connection, limit: int) -> list[Document]:
    """Return the newest rollouts, newest first."""
    query = (
        select(_rollout, _model.c.name.label("model"))
        .join(_model, _model.c.id == _rollout.c.model_id)
        .order_by(_rollout.c.created_at.desc(), _rollout.c.id.desc())
        .limit(limit)
    )
    return [rollout_document(tx, as_rollout(row), row.explanation) for row in tx.execute(query).all()]


def rollout(tx: Connection, rollout_id: str) -> Document:
    """Return one rollout; NotFound names the id."""
    return rollout_document(tx, *rollout_by_id(tx, rollout_id))


def rollout_document(tx: Connection, found: Rollout, explanation: str) -> Document:
    """Return the rollout as a document, also one that is not stored yet."""
    concerned = [version for version in (found.from_version, found.to_version) if version]
    rows = tx.execute(select(_version.c.id, _version.c.number).where(_version.c.id.in_(concerned)))
    numbers = {row.id: row.number for row in rows}
    group = tx.execute(select(_group.c.name).where(_group.c.id == found.group_id)).scalar_one()
    reverts = found.state in (RolloutState.REVERTING, RolloutState.ABORTED)
    return {
        "id": found.id,
        "model": found.model,
        "group": group,
        "from_version": numbers.get(found.from_version) if found.from_version else None,
        "to_version": numbers[found.to_version],
        "state": found.state,
        "stage": found.stage + 1,
        "stages": [{"percent": round(stage.share * 100, 6), "devices": stage.devices} for stage in found.stages],
        "gate": asdict(found.gate),
        "counts": asdict(count_outcomes(tx, found.id)),
        "hit_devices": _hit_devices(tx, found),
        "not_back": count_not_back(tx, found) if reverts else 0,
        "proposed_by": found.proposed_by,
        "approved_by": found.approved_by,
        "dev_only": found.dev_only,
        "explanation": explanation,
        "created_at": found.created_at,
        "state_since": found.state_since,
    }


def _hit_devices(tx: Connection, found: Rollout) -> list[Document]:
    outcome, device = tables.outcome, tables.device
    query = (
        select(
            device.c.id.label("device"),
            device.c.name,
            outcome.c.state,
            outcome.c.failure_stage.label("stage"),
            outcome.c.code,
            outcome.c.message,
        )
        .join(device, device.c.id == outcome.c.device_id)
        .where(outcome.c.rollout_id == found.id, outcome.c.state.in_(["failed", "silent"]))
        .order_by(outcome.c.decided_at, device.c.id)
        .limit(HIT_DEVICES_SHOWN)
    )
    return [dict(row) for row in tx.execute(query).mappings()]
