"""What a device's reports say about its slots and about the assignments it took. Nothing here is an order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from controller.domain.assignments import UNDECIDED, OutcomeState
from controller.domain.ids import DeviceId
from device_agent.protocol.messages import LifecycleItem, LifecycleState

LifecycleReport = tuple[DeviceId, LifecycleItem]

DECIDES = {LifecycleState.HEALTHY: OutcomeState.HEALTHY, LifecycleState.FAILED: OutcomeState.FAILED}
"""What a report decides; every other report tells of work that goes on."""


class SlotKey(NamedTuple):
    """A slot of a device."""

    device_id: DeviceId
    slot: str


@dataclass(frozen=True)
class RunningSlot:
    """What a slot was last said to run, and how that manifest stands there."""

    manifest_sha256: str | None
    state: str


class OutcomeKey(NamedTuple):
    """What reports are matched by: counters change when an assignment is renewed, the manifest does not."""

    device_id: DeviceId
    slot: str
    manifest_sha256: str | None


@dataclass(frozen=True)
class LatestOutcome:
    """The newest outcome under a key, as stored."""

    counter: int
    state: OutcomeState


@dataclass(frozen=True)
class Decision:
    """What a device's word makes of an outcome."""

    key: OutcomeKey
    counter: int
    state: OutcomeState
    failure_stage: str | None = None
    code: str | None = None
    message: str | None = None


def running_slots(
    before: Mapping[SlotKey, RunningSlot], lifecycle: Iterable[LifecycleReport]
) -> dict[SlotKey, RunningSlot]:
    """Return what the reported slots run now.

    The state is the active manifest's. Work on another manifest does not change it, and a manifest that the slot
    went back to was healthy before, or it would not have been kept.
    """
    now: dict[SlotKey, RunningSlot] = {}
    for device_id, item in lifecycle:
        key = SlotKey(device_id, item.slot)
        known = now.get(key) or before.get(key)
        if item.active is None or item.active == item.manifest:
            now[key] = RunningSlot(item.active, item.state)
        elif known is None or known.manifest_sha256 != item.active:
            now[key] = RunningSlot(item.active, LifecycleState.HEALTHY)
        else:
            now[key] = known
    return now


def decide_outcomes(latest: Mapping[OutcomeKey, LatestOutcome], lifecycle: Iterable[LifecycleReport]) -> list[Decision]:
    """Return what the reports decide. The last word on a manifest counts, and a decided outcome stays decided."""
    decisions: dict[OutcomeKey, Decision] = {}
    for device_id, item in lifecycle:
        own = OutcomeKey(device_id, item.slot, item.manifest)
        state = DECIDES.get(item.state)
        if state and own in latest:
            decisions[own] = Decision(own, latest[own].counter, state, item.stage, item.code, item.message)
        kept = OutcomeKey(device_id, item.slot, item.active)
        awaited = kept in latest and latest[kept].state in UNDECIDED
        # Back on what it had, or empty: whoever waits for the device to be there needs no word beyond this one.
        settled = item.active is None or (item.state is LifecycleState.FAILED and item.active != item.manifest)
        if awaited and settled:
            decisions[kept] = Decision(kept, latest[kept].counter, OutcomeState.HEALTHY)
    return list(decisions.values())
