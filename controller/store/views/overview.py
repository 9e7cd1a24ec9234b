"""The fleet at a glance, and the history of what was decided and done."""

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, func, select

from controller.domain.catalog import NEXT_TASK, VariantState
from controller.store import tables
from controller.store.views.rollouts import rollouts

Document = dict[str, Any]
VERSIONS_SHOWN = 10
ROLLOUTS_SHOWN = 10
EVENTS_SHOWN = 20


def overview(tx: Connection) -> Document:
    """Return the fleet by model, version and state, the newest versions, rollouts and events."""
    return {
        "devices": tx.execute(select(func.count()).select_from(tables.device)).scalar_one(),
        "models": _models(tx),
        "versions": _versions(tx),
        "rollouts": rollouts(tx, ROLLOUTS_SHOWN),
        "events": events(tx, None, EVENTS_SHOWN),
    }


def events(tx: Connection, subject: str | None, limit: int) -> list[Document]:
    """Return the newest events, newest first, of one subject or of all."""
    event = tables.event
    columns = (event.c.at, event.c.actor, event.c.kind, event.c.subject, event.c.message)
    query = select(*columns).order_by(event.c.id.desc()).limit(limit)
    if subject:
        query = query.where(event.c.subject == subject)
    return [dict(row) for row in tx.execute(query).mappings()]


def _models(tx: Connection) -> list[Document]:
    slot, version = tables.device_slot, tables.model_version
    query = (
        select(slot.c.slot, version.c.number, slot.c.state, func.count().label("devices"))
        .outerjoin(version, version.c.id == slot.c.version_id)
        .group_by(slot.c.slot, version.c.number, slot.c.state)
        .order_by(slot.c.slot, version.c.number.desc())
    )
    found: dict[str, dict[int | None, Document]] = defaultdict(dict)
    for row in tx.execute(query):
        counts = found[row.slot].setdefault(
            row.number, {"version": row.number, "devices": 0, "soaking": 0, "failed": 0}
        )
        counts["devices"] += row.devices
        if row.state in ("soaking", "failed"):
            counts[row.state] += row.devices
    return [{"model": model, "versions": list(versions.values())} for model, versions in found.items()]


def _versions(tx: Connection) -> list[Document]:
    model, version, variant = tables.model, tables.model_version, tables.variant
    newest = (
        select(version.c.id, model.c.name, version.c.number, version.c.notes, version.c.created_at)
        .join(model, model.c.id == version.c.model_id)
        .order_by(version.c.created_at.desc(), version.c.id.desc())
        .limit(VERSIONS_SHOWN)
    )
    found = {
        row.id: {"model": row.name, "number": row.number, "notes": row.notes, "created_at": row.created_at}
        | {"variants": 0, "published": 0, "at_work": 0}
        for row in tx.execute(newest)
    }
    states = select(variant.c.version_id, variant.c.state, func.count().label("variants"))
    states = states.where(variant.c.version_id.in_(found)).group_by(variant.c.version_id, variant.c.state)
    for row in tx.execute(states):
        counts, state = found[row.version_id], VariantState(row.state)
        counts["variants"] += row.variants
        counts["published"] += row.variants if state is VariantState.PUBLISHED else 0
        counts["at_work"] += row.variants if state in NEXT_TASK else 0
    return list(found.values())
