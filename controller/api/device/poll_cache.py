"""What one process remembers so that a poll with nothing new costs no query.

The cache can say one thing only: "the assignment with this counter is still good for this device". Whoever shows
another counter, older or newer, is answered from the database, so no process ever takes back what another has
said. Four rules keep the one answer right; each has a test that fails without it:

 1. A change of a device's facts or assignment, by any process, drops its entry.
 2. After a change of the policy an entry counts only once its assignment is found good under the new policy;
    that is computed from the remembered facts, so that a policy which does not concern a device costs it nothing.
 3. What was read before a change that this process has already heard of is not stored: the change will not be
    heard of again, and the entry would stay wrong for good.
 4. An assignment that is due to be signed anew does not count.

A fifth lies with the caller: a process that no longer hears of changes must not ask the cache.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.domain.assignments import Manifests, is_good_under
from controller.domain.fleet import Device
from controller.domain.ids import DeviceId
from controller.store.policy import PolicySnapshot
from controller.use_cases.follow_changes import Changes
from controller.use_cases.issue_assignments import CurrentAssignment

ENTRIES_MAX = 200_000
"""About 290 MB, at 1.4 KB for a device with one slot and one label. A larger fleet is spread over processes by the
device's id in the load balancer."""


def etag_of(counter: int) -> bytes:
    """Return the entity tag of an assignment: its counter, so that tags have an order."""
    return b'"%d"' % counter


@dataclass(slots=True)
class _Entry:
    device: Device
    manifests: Manifests
    etag: bytes
    renew_at: datetime
    policy_version: int | None
    """The policy under which it was found good; None when that was not this process's policy."""


class PollCache:
    """Good assignments by device. No I/O; for use within one event loop."""

    def __init__(self, snapshot: PolicySnapshot, entries_max: int = ENTRIES_MAX) -> None:
        """Begin empty under a policy; the changes to apply are those after its sequence."""
        self._entries: dict[DeviceId, _Entry] = {}
        self._entries_max = entries_max
        self._policy_version = 0
        self.snapshot = snapshot
        """The policy, with the sequence up to which it is known to hold."""
        self.position = snapshot.seq
        """The last change that was applied."""

    def good_etag(self, device_id: DeviceId, now: datetime) -> bytes | None:
        """Return the tag of the assignment that is good for the device, None when the database must be asked."""
        entry = self._entries.get(device_id)
        if entry is None or now >= entry.renew_at:
            return None
        if entry.policy_version != self._policy_version:
            if not is_good_under(self.snapshot.policy, entry.manifests, entry.device):
                return None
            entry.policy_version = self._policy_version
        return entry.etag

    def store(self, seq: int, current: CurrentAssignment) -> None:
        """Remember an assignment that was read when the change log stood at `seq`."""
        if seq < self.position:
            return
        if len(self._entries) >= self._entries_max and current.device.id not in self._entries:
            del self._entries[next(iter(self._entries))]
        is_ours = current.policy is self.snapshot.policy
        self._entries[current.device.id] = _Entry(
            device=current.device,
            manifests=current.manifests,
            etag=etag_of(current.counter),
            renew_at=current.renew_at,
            policy_version=self._policy_version if is_ours else None,
        )

    def apply(self, changes: Changes) -> None:
        """Take in what has changed; to be called with every change once, in order."""
        if changes.everything:
            self._entries.clear()
        for device_id in changes.devices:
            self._entries.pop(device_id, None)
        if changes.snapshot:
            self._policy_version += 1
            self.snapshot = changes.snapshot
        self.position = changes.position
        self.snapshot = self.snapshot._replace(seq=max(self.snapshot.seq, changes.position))
