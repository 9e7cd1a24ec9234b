"""Approve a device that waits: from now on it belongs to the fleet."""

from datetime import datetime

from controller.domain.device_states import DeviceState
from controller.domain.errors import Conflict
from controller.domain.ids import DeviceId
from controller.store import device_identities
from controller.store.audit import record_audit
from controller.store.database import Database, add_event, record_change


def approve_device(database: Database, name_or_id: str, *, now: datetime, actor: str = "operator") -> DeviceId:
    """Let the device in, if it is not; Conflict for one that was revoked."""
    with database.writing() as tx:
        device = device_identities.device_to_decide(tx, name_or_id)
        if device.state is DeviceState.REVOKED:
            raise Conflict(
                f"{device.name} was revoked, which is for good; enrol the machine anew, with a new key and a new token",
                code="device_revoked",
            )
        if device.state is DeviceState.PENDING:
            device_identities.set_state(tx, device.id, DeviceState.APPROVED)
            add_event(tx, now, actor, "device.approved", device.id, f"{device.name} approved")
            record_audit(tx, now, actor, "device.approved", device.id, {"name": device.name})
            record_change(tx, now, [device.id])
    return device.id
