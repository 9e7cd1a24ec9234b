"""Explain a device: what it shall run, what it runs, and why. Answers "why is it not on version 7?" in one call."""

from typing import Any

from controller.domain.desired_state import DesiredState, desired_state
from controller.domain.ids import DeviceId
from controller.store.database import Database
from controller.store.devices import load_devices
from controller.store.policy import load_policy
from controller.store.variants import targets_of
from controller.store.views.fleet import device as device_document


def explain_device(database: Database, name_or_id: str) -> dict[str, Any]:
    """Return the words of the decision for each model, the slots as last reported, and what the device refuses."""
    with database.reading() as tx:
        document = device_document(tx, name_or_id)
        policy, _ = load_policy(tx)
        device = load_devices(tx, [DeviceId(document["id"])]).get(DeviceId(document["id"]))
        refused = targets_of(tx, device.refused if device else ())
    # A device that waits for approval, or was revoked, shall run nothing and is asked nothing.
    desired = desired_state(device, policy) if device else DesiredState({}, {})
    return {
        "device": document["id"],
        "state": document["state"],
        "suspicion": document["suspicion"],
        "last_seen": document["last_seen"],
        "models": {model: list(words) for model, words in desired.explanation.items()},
        "slots": {
            slot: {"target": choice.variant and choice.variant.target, "reason": choice.reason}
            for slot, choice in desired.slots.items()
        },
        "observed": document["slots"],
        "refused": refused,
    }
