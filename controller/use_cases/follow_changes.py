"""Follow the change log: what one process has to read again because others have written."""

from dataclasses import dataclass

from controller.domain.ids import DeviceId
from controller.store import changes
from controller.store.database import Database
from controller.store.policy import PolicySnapshot, load_policy


@dataclass(frozen=True)
class Changes:
    """What has changed since a position."""

    position: int
    """Everything up to here is contained; the next call starts here."""
    devices: frozenset[DeviceId]
    """Devices whose facts have changed."""
    everything: bool
    """The log no longer reaches back to the position: every device may have changed."""
    snapshot: PolicySnapshot | None
    """The present policy, if it has changed."""


def follow_changes(database: Database, position: int) -> Changes:
    """Return what has changed after the position, read in one snapshot of the database."""
    with database.reading() as tx:
        logged = changes.changes_after(tx, position)
        snapshot = load_policy(tx) if logged.policy or logged.gap else None
    return Changes(logged.position, logged.devices, logged.gap, snapshot)


def read_policy(database: Database) -> PolicySnapshot:
    """Return the present policy and the position from which its changes can be followed."""
    with database.reading() as tx:
        return load_policy(tx)
