"""Revoke a device: its key, its certificate and its sessions are worth nothing from this moment, in every process.

Polls stop because `devices.load_devices` leaves the device out and the change empties what processes remember; the
models that it holds keep running on it, for nobody can reach into a machine that is gone.
"""

from datetime import datetime

from controller.domain.device_states import DeviceState
from controller.domain.ids import DeviceId
from controller.store import device_identities
from controller.store.audit import record_audit
from controller.store.database import Database, add_event, record_change


def revoke_device(database: Database, name_or_id: str, *, now: datetime, actor: str = "operator") -> DeviceId:
    """Turn the device away for good, if that was not done before."""
    with database.writing() as tx:
        device = device_identities.device_to_decide(tx, name_or_id)
        if device.state is not DeviceState.REVOKED:
            device_identities.set_state(tx, device.id, DeviceState.REVOKED)
            add_event(tx, now, actor, "device.revoked", device.id, f"{device.name} revoked; it gets nothing any more")
            record_audit(tx, now, actor, "device.revoked", device.id, {"name": device.name, "was": device.state})
            record_change(tx, now, [device.id])
    return device.id
