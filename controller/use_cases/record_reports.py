"""Record what devices report: each batch once, all of its items together, many devices in one transaction.

A report is an observation. It changes what a slot is known to run, decides outcomes, and remembers refusals;
what follows from that is decided elsewhere. The device's last word on an assignment counts, also when it comes
after the device was taken for silent.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from controller.domain.ids import DeviceId
from controller.domain.observations import LifecycleReport, decide_outcomes, running_slots
from controller.store import devices, reports
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.reports import BatchKey
from device_agent.protocol.messages import LifecycleItem, LifecycleState, ReportBatch, ServingItem

DeviceBatch = tuple[DeviceId, ReportBatch]


class Receipt(Enum):
    """What became of a batch."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    """It was applied before."""
    DEVICE_UNKNOWN = "device_unknown"


def record_reports(database: Database, batches: Sequence[DeviceBatch], *, now: datetime) -> list[Receipt]:
    """Apply the batches in their order, in one transaction; return what became of each."""
    with database.writing() as tx:
        known = devices.lock_devices(tx, {device_id for device_id, _ in batches})
        firsts: dict[BatchKey, DeviceBatch] = {}
        for device_id, batch in batches:
            if device_id in known:
                firsts.setdefault((device_id, batch.batch), (device_id, batch))
        new = reports.insert_batches(tx, firsts, now) if firsts else set()
        _apply(tx, [one for key, one in firsts.items() if key in new], now)
    return [_receipt(device_id in known, new, (device_id, batch.batch)) for device_id, batch in batches]


def _receipt(is_known: bool, unclaimed: set[BatchKey], key: BatchKey) -> Receipt:
    if not is_known:
        return Receipt.DEVICE_UNKNOWN
    if key in unclaimed:
        unclaimed.remove(key)  # A batch that came twice in one call was applied for the first of the two.
        return Receipt.APPLIED
    return Receipt.DUPLICATE


def _apply(tx: Transaction, batches: Sequence[DeviceBatch], now: datetime) -> None:
    reports.insert_serving(
        tx, [(d, item) for d, batch in batches for item in batch.items if isinstance(item, ServingItem)]
    )
    lifecycle = [(d, item) for d, batch in batches for item in batch.items if isinstance(item, LifecycleItem)]
    if lifecycle:
        _apply_lifecycle(tx, lifecycle, now)


def _apply_lifecycle(tx: Transaction, lifecycle: Sequence[LifecycleReport], now: datetime) -> None:
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
    record_change(tx, now, sorted(changed))
