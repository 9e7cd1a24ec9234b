"""Devices and groups as the API shows them."""

import base64
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from controller.domain.errors import InvalidInput, NotFound
from controller.domain.fleet import DeviceGroup
from controller.store import tables
from controller.store.groups import matching_devices

Document = dict[str, Any]
PAGE_SIZE_MAX = 1000
_device, _seen, _slot, _group = tables.device, tables.device_seen, tables.device_slot, tables.device_group
_devices = select(_device, _seen.c.at.label("last_seen")).outerjoin(_seen, _seen.c.device_id == _device.c.id)


def devices(tx: Connection, group: DeviceGroup | None, page_size: int, page_token: str | None) -> Document:
    """Return one page of devices by id; `next_page_token` is None on the last page."""
    if not 1 <= page_size <= PAGE_SIZE_MAX:
        raise InvalidInput(f"page_size is {page_size}; expected 1 to {PAGE_SIZE_MAX}", code="bad_query")
    last = _after(page_token)
    if group is None:
        rows = list(tx.execute(_devices.where(_device.c.id > last).order_by(_device.c.id).limit(page_size + 1)))
    else:
        wanted: list[str] = []
        for device in matching_devices(tx, group):
            if device.id > last:
                wanted.append(device.id)
            if len(wanted) > page_size:
                break
        rows = list(tx.execute(_devices.where(_device.c.id.in_(wanted)).order_by(_device.c.id)))
    page = rows[:page_size]
    token = base64.urlsafe_b64encode(page[-1].id.encode()).decode() if len(rows) > page_size else None
    return {"items": _with_slots(tx, page), "next_page_token": token}


def device(tx: Connection, name_or_id: str) -> Document:
    """Return one device; NotFound names what was asked for."""
    named = or_(_device.c.id == name_or_id, _device.c.name == name_or_id)
    # A machine may call itself by another device's id; the id itself comes first.
    row = tx.execute(_devices.where(named).order_by(_device.c.id != name_or_id).limit(1)).one_or_none()
    if row is None:
        raise NotFound(f"there is no device {name_or_id!r}", code="device_unknown")
    return _with_slots(tx, [row])[0]


def groups(tx: Connection) -> list[Document]:
    """Return the groups by name."""
    member = tables.device_group_member
    rows = tx.execute(select(member.c.group_id, func.count().label("members")).group_by(member.c.group_id))
    counted = {row.group_id: row.members for row in rows}
    return [
        {
            "id": row.id,
            "name": row.name,
            "selector": row.selector,
            "members": counted.get(row.id, 0) if row.selector is None else None,
            "created_at": row.created_at,
        }
        for row in tx.execute(select(_group).order_by(_group.c.name))
    ]


def group(tx: Connection, found: DeviceGroup) -> Document:
    """Return one group with the number of devices that match it now."""
    document = next(item for item in groups(tx) if item["id"] == found.id)
    return {**document, "devices": sum(1 for _ in matching_devices(tx, found))}


def _after(page_token: str | None) -> str:
    try:
        return base64.b64decode(page_token or "", altchars=b"-_", validate=True).decode()
    except ValueError:
        detail = f"page_token is {page_token!r}; pass a next_page_token as it came"
        raise InvalidInput(detail, code="bad_query") from None


def _with_slots(tx: Connection, rows: list[Row[Any]]) -> list[Document]:
    version, variant = tables.model_version, tables.variant
    query = (
        select(_slot, version.c.number, variant.c.recipe)
        .outerjoin(version, version.c.id == _slot.c.version_id)
        .outerjoin(variant, variant.c.id == _slot.c.variant_id)
        .where(_slot.c.device_id.in_([row.id for row in rows]))
        .order_by(_slot.c.slot)
    )
    slots: dict[str, list[Document]] = defaultdict(list)
    for row in tx.execute(query):
        slots[row.device_id].append(
            {
                "slot": row.slot,
                "version": row.number,
                "variant": row.recipe,
                "manifest_sha256": row.manifest_sha256,
                "state": row.state,
                "updated_at": row.updated_at,
            }
        )
    shown = (
        "id",
        "name",
        "state",
        "suspicion",
        "profile",
        "labels",
        "serial",
        "certificate_expires_at",
        "enrolled_at",
        "last_seen",
    )
    return [{**{name: getattr(row, name) for name in shown}, "slots": slots[row.id]} for row in rows]
