"""The fleet at a glance, and the history of what was decided and done."""

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, func, select

from controller.store import tables
from controller.store.views.rollouts import rollouts

Document = dict[str, Any]
ROLLOUTS_SHOWN = 10
EVENTS_SHOWN = 20


def overview(tx: Connection) -> Document:
    """Return the fleet by model, version and state, the newest rollouts and the newest events."""
    return {
        "devices": tx.execute(select(func.count()).select_from(tables.device)).scalar_one(),
        "models": _models(tx),
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
