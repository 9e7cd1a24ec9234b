"""Queries about who devices are: their keys and certificates, and what people have decided about them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, or_, select, update

from controller.domain.device_states import DeviceState
from controller.domain.errors import NotFound
from controller.domain.fleet import Device
from controller.domain.ids import DeviceId
from controller.store import tables
from controller.store.database import Transaction, upsert

_device = tables.device


@dataclass(frozen=True)
class NewIdentity:
    """How a machine enrolled."""

    public_key_pem: str
    token_id: str
    state: DeviceState = DeviceState.APPROVED
    encryption_key: str | None = None
    serial: str | None = None


@dataclass(frozen=True)
class DeviceIdentity:
    """What the controller knows a device by."""

    id: DeviceId
    name: str
    state: DeviceState
    public_key_pem: str
    suspicion: str | None = None
    """Why a person should look at it."""


_identities: Select[Any] = select(
    _device.c.id, _device.c.name, _device.c.state, _device.c.public_key_pem, _device.c.suspicion
)


def insert_device(tx: Transaction, device: Device, identity: NewIdentity, now: datetime) -> bool:
    """Write a new device; False when the name is taken."""
    row = {
        "id": device.id,
        "name": device.name,
        "profile": device.profile.to_json(),
        "labels": device.labels,
        "enrolled_at": now,
        **vars(identity),
    }
    unless_taken = upsert(tx, _device).values(row).on_conflict_do_nothing(index_elements=["name"])
    return tx.execute(unless_taken.returning(_device.c.id)).first() is not None


def enrolled_with(tx: Transaction, public_key_pem: str, token_id: str) -> DeviceIdentity | None:
    """Return the device that this key and token were enrolled as, if they were."""
    same = and_(_device.c.token_id == token_id, _device.c.public_key_pem == public_key_pem)
    return _identity(tx, _identities.where(same).order_by(_device.c.id).limit(1))


def identity_of(tx: Transaction, device_id: str, *, lock: bool = False) -> DeviceIdentity | None:
    """Return what a device is known by, None where there is none of this id; locked if it is to be changed."""
    query = _identities.where(_device.c.id == device_id)
    return _identity(tx, query.with_for_update(key_share=True) if lock else query)


def device_to_decide(tx: Transaction, name_or_id: str) -> DeviceIdentity:
    """Return the device that a person named, locked; NotFound names what was asked for."""
    named = or_(_device.c.name == name_or_id, _device.c.id == name_or_id)
    # A machine may call itself by another device's id; the id itself comes first.
    query = _identities.where(named).order_by(_device.c.id != name_or_id).limit(1)
    found = _identity(tx, query.with_for_update(key_share=True))
    if found is None:
        raise NotFound(f"there is no device {name_or_id!r}", code="device_unknown")
    return found


def lock_identities(tx: Transaction, ids: Iterable[DeviceId]) -> dict[DeviceId, DeviceIdentity]:
    """Return what devices are known by, locked in the order of their ids as `devices.lock_devices` does."""
    query = _identities.where(_device.c.id.in_(list(ids))).order_by(_device.c.id)
    return {DeviceId(row.id): _read(row) for row in tx.execute(query.with_for_update(key_share=True))}


def public_keys(tx: Transaction, ids: Iterable[DeviceId]) -> dict[DeviceId, str]:
    """Return the keys (PEM) of the devices that exist among the ids."""
    rows = tx.execute(select(_device.c.id, _device.c.public_key_pem).where(_device.c.id.in_(list(ids))))
    return {DeviceId(row.id): row.public_key_pem for row in rows}


def set_state(tx: Transaction, device_id: DeviceId, state: DeviceState) -> None:
    """Write where the device stands from now on."""
    tx.execute(update(_device).where(_device.c.id == device_id).values(state=state))


def set_suspicion(tx: Transaction, device_id: DeviceId, suspicion: str | None) -> None:
    """Write why a person should look at the device, or that nothing is wrong with it."""
    tx.execute(update(_device).where(_device.c.id == device_id).values(suspicion=suspicion))


def set_certificate(tx: Transaction, device_id: DeviceId, public_key_pem: str, serial: str, expires: datetime) -> None:
    """Write the device's key and the certificate that was issued for it."""
    changed = {"public_key_pem": public_key_pem, "certificate_serial": serial, "certificate_expires_at": expires}
    tx.execute(update(_device).where(_device.c.id == device_id).values(changed))


def _identity(tx: Transaction, query: Select[Any]) -> DeviceIdentity | None:
    row = tx.execute(query).one_or_none()
    return _read(row) if row else None


def _read(row: Row[Any]) -> DeviceIdentity:
    return DeviceIdentity(DeviceId(row.id), row.name, DeviceState(row.state), row.public_key_pem, row.suspicion)
