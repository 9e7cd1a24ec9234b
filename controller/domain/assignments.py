"""When a device needs a new assignment, and what becomes of the ones it took.

An assignment stays good while it names the manifests that the device shall run, counts the device in every
rollout that moves it, and is younger than RENEW_AFTER. Reasons and soak times do not matter: a rollout that
passes a stage concerns the devices of the next stage alone.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from controller.domain.desired_state import DesiredState, Policy, SlotChoice, desired_state
from controller.domain.fleet import Device
from device_agent.protocol.assignment import VALIDITY

RENEW_AFTER = VALIDITY / 2
"""Age at which an assignment is signed anew, so that a device that polls daily never holds an expired one."""

PIN_SILENT_AFTER = timedelta(hours=1)
"""How long a device may go without an outcome for a pinned version; rollouts bring their own."""

Manifests = Mapping[str, str | None]
"""What an assignment names: slot to sha256 of the manifest, None for a slot that shall run nothing."""


class OutcomeState(StrEnum):
    """What became of one slot of an assignment. Only healthy and failed are a device's own words."""

    TAKEN = "taken"
    HEALTHY = "healthy"
    FAILED = "failed"
    SILENT = "silent"


UNDECIDED = frozenset({OutcomeState.TAKEN, OutcomeState.SILENT})
"""States that the device's own word replaces, and to which an outcome never returns from it."""


def manifests_of(desired: DesiredState) -> dict[str, str | None]:
    """Return the part of a desired state that an assignment must agree with."""
    return {slot: _manifest(choice) for slot, choice in desired.slots.items()}


def _manifest(choice: SlotChoice) -> str | None:
    return choice.variant.manifest_sha256 if choice.variant else None


def is_good(manifests: Manifests, device: Device, desired: DesiredState) -> bool:
    """Tell whether an assignment that names these manifests still says what the device shall run."""
    uncounted = any(counts_anew(choice, device) for choice in desired.slots.values())
    return not uncounted and manifests == manifests_of(desired)


def counts_anew(choice: SlotChoice, device: Device) -> bool:
    """Tell whether the choice is a rollout's that does not count the device yet, even if it changes nothing there."""
    return choice.rollout_id is not None and choice.rollout_id not in device.took


def is_good_under(policy: Policy, manifests: Manifests, device: Device) -> bool:
    """Tell the same from the policy, for an assignment that was good under an earlier one."""
    return is_good(manifests, device, desired_state(device, policy))


def next_counter(previous: int, now: datetime) -> int:
    """Return a counter above the previous one; as it follows the clock, a restored backup does not fall behind."""
    return max(previous + 1, int(now.timestamp()))
