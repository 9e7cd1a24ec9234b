"""Record when devices were last heard from. Written in bulk, a little late: losing seconds of it loses nothing."""

from collections.abc import Mapping
from datetime import datetime

from controller.domain.ids import DeviceId
from controller.store import devices
from controller.store.database import Database


def record_seen(database: Database, seen: Mapping[DeviceId, datetime]) -> None:
    """Keep the latest moment for each device; an earlier one, from a slower process, changes nothing."""
    if seen:
        with database.writing() as tx:
            devices.record_seen(tx, seen)
