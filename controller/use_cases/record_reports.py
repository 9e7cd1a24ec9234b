"""Record what devices report: each batch once, all of its items together, many devices in one transaction.

A report is an observation. It changes what a slot is known to run, decides outcomes, and remembers refusals;
what follows from that is decided elsewhere. The device's last word on an assignment counts, also when it comes
after the device was taken for silent. Its number says whether it can come from the one machine that the key was
given to (`domain/report_sequence.py`); a device of which two seem to exist reports nothing until a person has looked.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from controller.domain.device_states import DeviceState
from controller.domain.ids import DeviceId
from controller.domain.observations import LifecycleReport, decide_outcomes, running_slots
from controller.domain.report_sequence import Numbered, ReportPosition, Verdict, is_behind, judge_report, moved_to
from controller.store import device_identities, report_positions, reports
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.device_identities import DeviceIdentity
from controller.store.reports import BatchKey
from device_agent.protocol.messages import LifecycleItem, LifecycleState, ReportBatch, ServingItem

DeviceBatch = tuple[DeviceId, ReportBatch]


class Receipt(Enum):
    """What became of a batch."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """It was applied before."""
    DEVICE_UNKNOWN = "device_unknown"
    DEVICE_REVOKED = "device_revoked"
    REPLAY = "replay"
    """It was applied before, and later ones after it."""
    CLONE_SUSPECTED = "clone_suspected"
    """It, or one before it, cannot come from the machine that reported before."""


def record_reports(database: Database, batches: Sequence[DeviceBatch], *, now: datetime) -> list[Receipt]:
    """Apply the batches in their order, in one transaction; return what became of each."""
    with database.writing() as tx:
        known = device_identities.lock_identities(tx, {device_id for device_id, _ in batches})
        admission = _Admission(tx, known, batches)
        judged = [admission.judge(device_id, batch) for device_id, batch in batches]
        report_positions.save_positions(tx, admission.moved)
        new = reports.insert_batches(tx, admission.taken, now) if admission.taken else set()
        changed = _apply(tx, [one for key, one in admission.taken.items() if key in new], now)
        changed |= _tell(tx, known, admission.suspicions, now)
        record_change(tx, now, sorted(changed))
    taken_before = admission.taken.keys() - new
    return [
        Receipt.DUPLICATE if (device_id, batch.batch) in taken_before and receipt is Receipt.APPLIED else receipt
        for (device_id, batch), receipt in zip(batches, judged, strict=True)
    ]


class _Admission:
    """Judges the batches of one call, each by the state that those before it leave."""

    def __init__(self, tx: Transaction, known: dict[DeviceId, DeviceIdentity], batches: Sequence[DeviceBatch]) -> None:
        self._known = known
        self._positions = report_positions.load_positions(tx, known)
        behind = [
            (device_id, batch.batch)
            for device_id, batch in batches
            if is_behind(self._positions.get(device_id), _numbered(batch))
        ]
        self._applied = report_positions.known_batches(tx, behind)
        self.moved: dict[DeviceId, ReportPosition] = {}
        """Where devices stand after this call."""
        self.taken: dict[BatchKey, DeviceBatch] = {}
        self.suspicions: dict[DeviceId, str] = {}

    def judge(self, device_id: DeviceId, batch: ReportBatch) -> Receipt:
        """Say what becomes of a batch, and remember it for those that follow."""
        refused = self._refused(device_id)
        if refused:
            return refused
        report, key = _numbered(batch), (device_id, batch.batch)
        position = self._positions.get(device_id)
        match judge_report(position, report, is_known=key in self._applied or key in self.taken):
            case Verdict.DUPLICATE:
                return Receipt.DUPLICATE
            case Verdict.REPLAY:
                return Receipt.REPLAY
            case Verdict.CLONE:
                self.suspicions[device_id] = _suspicion(position, report)
                return Receipt.CLONE_SUSPECTED
            case Verdict.TAKE:
                self._positions[device_id] = self.moved[device_id] = moved_to(position, report)
                if key in self.taken:
                    return Receipt.DUPLICATE
                self.taken[key] = (device_id, batch)
                return Receipt.APPLIED

    def _refused(self, device_id: DeviceId) -> Receipt | None:
        device = self._known.get(device_id)
        if device is None or device.state is DeviceState.PENDING:
            return Receipt.DEVICE_UNKNOWN
        if device.state is DeviceState.REVOKED:
            return Receipt.DEVICE_REVOKED
        if device.suspicion is not None or device_id in self.suspicions:
            return Receipt.CLONE_SUSPECTED
        return None


def _numbered(batch: ReportBatch) -> Numbered:
    return Numbered(batch.spool, batch.seq, batch.batch)


def _suspicion(position: ReportPosition | None, report: Numbered) -> str:
    stands = f"its reports stand at {position.seq} of spool {position.spool}" if position else "it has not reported"
    return f"two machines seem to have its key: another batch {report.seq} of spool {report.spool}, while {stands}"


def _tell(
    tx: Transaction, known: dict[DeviceId, DeviceIdentity], suspicions: dict[DeviceId, str], now: datetime
) -> set[DeviceId]:
    for device_id, words in sorted(suspicions.items()):
        device_identities.set_suspicion(tx, device_id, words)
        add_event(tx, now, "device", "device.suspected", device_id, f"{known[device_id].name}: {words}")
    return set(suspicions)


def _apply(tx: Transaction, batches: Sequence[DeviceBatch], now: datetime) -> set[DeviceId]:
    """Write what the batches say; return the devices of which facts have changed."""
    reports.insert_serving(
        tx, [(d, item) for d, batch in batches for item in batch.items if isinstance(item, ServingItem)]
    )
    lifecycle = [(d, item) for d, batch in batches for item in batch.items if isinstance(item, LifecycleItem)]
    return _apply_lifecycle(tx, lifecycle, now) if lifecycle else set()


def _apply_lifecycle(tx: Transaction, lifecycle: Sequence[LifecycleReport], now: datetime) -> set[DeviceId]:
    concerned = {device_id for device_id, _ in lifecycle}
    named = {name for _, item in lifecycle for name in (item.manifest, item.active) if name}
    variants = reports.variants_of(tx, named)
    reports.save_slots(tx, running_slots(reports.load_slots(tx, concerned), lifecycle), variants, now)
    latest = reports.latest_outcomes(tx, concerned, named)
    reports.save_decisions(tx, decide_outcomes(latest, lifecycle), now)
    refused = {
        (device_id, item.manifest): item.code or ""
        for device_id, item in lifecycle
        # What was never published here cannot be assigned again, so its refusal means nothing.
        if item.refused and item.manifest in variants
    }
    changed = reports.insert_refusals(tx, refused, now)
    for device_id, item in lifecycle:
        if item.state is LifecycleState.FAILED:
            words = f"{item.slot} failed in {item.stage}: {item.code} {item.message or ''}".rstrip()
            add_event(tx, now, "device", "device.failed", device_id, words)
    return changed
