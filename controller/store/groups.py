"""Queries about device groups and the devices that match them."""

import json
from collections.abc import Iterator
from functools import lru_cache

from sqlalchemy import Connection, insert, select

from controller.domain.device_states import DeviceState
from controller.domain.errors import NotFound
from controller.domain.fleet import Device, DeviceGroup, parse_selector
from controller.domain.ids import DeviceId, GroupId
from controller.store import tables
from controller.store.tables import Row
from device_agent.protocol.fields import Fields
from device_agent.protocol.profile import DeviceProfile

ROWS_AT_ONCE = 5000
_group, _member, _device = tables.device_group, tables.device_group_member, tables.device


def insert_group(tx: Connection, row: Row, members: frozenset[DeviceId] | None) -> None:
    """Write a group and, for a static one, its members."""
    tx.execute(insert(_group).values(row))
    if members:
        tx.execute(insert(_member), [{"group_id": row["id"], "device_id": member} for member in sorted(members)])


def group_named(tx: Connection, name: str) -> DeviceGroup:
    """Return the group; NotFound names what was asked for."""
    found = tx.execute(select(_group).where(_group.c.name == name)).one_or_none()
    if found is None:
        raise NotFound(f"there is no group {name!r}", code="group_unknown")
    return _as_group(tx, found.id, found.name, found.selector)


def all_groups(tx: Connection) -> dict[GroupId, DeviceGroup]:
    """Return every group with its static members."""
    rows = tx.execute(select(_group).order_by(_group.c.name)).all()
    return {GroupId(row.id): _as_group(tx, row.id, row.name, row.selector) for row in rows}


def device_ids_named(tx: Connection, names: list[str]) -> dict[str, DeviceId]:
    """Return the ids of the devices that exist among the names."""
    rows = tx.execute(select(_device.c.name, _device.c.id).where(_device.c.name.in_(names))).all()
    return {row.name: DeviceId(row.id) for row in rows}


def matching_devices(tx: Connection, group: DeviceGroup) -> Iterator[Device]:
    """Yield a group's approved devices, a few thousand rows at a time, without their refusals and outcomes."""
    shown = ("id", "name", "profile", "labels", "encryption_key")
    columns = select(*(_device.c[name] for name in shown))
    columns = columns.where(_device.c.state == DeviceState.APPROVED)
    last = ""
    while rows := tx.execute(columns.where(_device.c.id > last).order_by(_device.c.id).limit(ROWS_AT_ONCE)).all():
        for row in rows:
            profile = _profile(json.dumps(row.profile, sort_keys=True))
            device = Device(DeviceId(row.id), row.name, profile, row.labels, encryption_key=row.encryption_key)
            if group.matches(device):
                yield device
        last = rows[-1].id


@lru_cache(maxsize=1024)
def _profile(text: str) -> DeviceProfile:
    # A fleet has few profiles and many devices: each profile is read once.
    return DeviceProfile.read(Fields.from_json(text, "profile"))


def _as_group(tx: Connection, group_id: str, name: str, selector: str | None) -> DeviceGroup:
    if selector is not None:
        return DeviceGroup(GroupId(group_id), name, parse_selector(selector))
    members = tx.execute(select(_member.c.device_id).where(_member.c.group_id == group_id)).scalars()
    return DeviceGroup(GroupId(group_id), name, members=frozenset(map(DeviceId, members)))
