"""Clear a suspicion: a person has looked at the device and found one machine under its key."""

from datetime import datetime

from controller.domain.ids import DeviceId
from controller.store import device_identities, report_positions
from controller.store.audit import record_audit
from controller.store.database import Database, add_event, record_change


def clear_suspicion(database: Database, name_or_id: str, *, now: datetime, actor: str = "operator") -> DeviceId:
    """Take the device's reports again, from whichever number it goes on. Without a suspicion it changes nothing."""
    with database.writing() as tx:
        device = device_identities.device_to_decide(tx, name_or_id)
        if device.suspicion is not None:
            device_identities.set_suspicion(tx, device.id, None)
            # A disk that was set back goes on with lower numbers; if there are two machines, they fork again.
            report_positions.forget_position(tx, device.id)
            words = f"{device.name} is one machine; its reports are taken again"
            add_event(tx, now, actor, "device.cleared", device.id, words)
            record_audit(tx, now, actor, "device.cleared", device.id, {"name": device.name, "was": device.suspicion})
            record_change(tx, now, [device.id])
    return device.id
