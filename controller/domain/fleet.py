"""Devices and groups. A group is a label selector, or a static list of devices.

Selector grammar (the equality part of the Kubernetes label selectors): comma-separated terms that must all
hold, `key=value`, `key!=value` or `key`; the key `profile` reads the device's profile name. The empty
selector matches every device, also those that enrol tomorrow.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime

from controller.domain.errors import InvalidInput
from controller.domain.ids import DeviceId, GroupId, RolloutId, VersionId
from device_agent.protocol.profile import DeviceProfile

_TERM = re.compile(r"(?P<key>[a-z0-9][a-z0-9._/-]*)\s*(?:(?P<operator>!=|=)\s*(?P<value>[A-Za-z0-9._-]*))?")


@dataclass(frozen=True)
class Term:
    """One condition on a label."""

    key: str
    operator: str
    """`=`, `!=`, or `exists`."""
    value: str = ""

    def matches(self, labels: dict[str, str]) -> bool:
        """Tell whether the labels fulfil the condition."""
        if self.operator == "exists":
            return self.key in labels
        return (labels.get(self.key) == self.value) is (self.operator == "=")


def parse_selector(text: str) -> tuple[Term, ...]:
    """Read a selector; InvalidInput names the term that does not fit the grammar."""
    terms = []
    for part in (piece.strip() for piece in text.split(",") if text.strip()):
        match = _TERM.fullmatch(part)
        if not match:
            raise InvalidInput(
                f"{part!r} is not a condition; write key=value, key!=value or key, separated by commas",
                code="bad_selector",
                field="/selector",
            )
        terms.append(Term(match["key"], match["operator"] or "exists", match["value"] or ""))
    return tuple(terms)


@dataclass(frozen=True)
class DeviceGroup:
    """A named filter, or a static list of devices when `members` is given."""

    id: GroupId
    name: str
    terms: tuple[Term, ...] = ()
    members: frozenset[DeviceId] | None = None

    def matches(self, device: "Device") -> bool:
        """Tell whether the device belongs to the group at this moment."""
        if self.members is not None:
            return device.id in self.members
        labels = {**device.labels, "profile": device.profile.name}
        return all(term.matches(labels) for term in self.terms)


@dataclass(frozen=True)
class Device:
    """An enrolled machine, with the facts that its desired state depends on."""

    id: DeviceId
    name: str
    profile: DeviceProfile
    labels: dict[str, str] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    """Manifests (sha256) that the device has refused for good."""
    took: frozenset[RolloutId] = frozenset()
    """Rollouts whose assignment the device has been given."""
    encryption_key: str | None = None
    """Its X25519 key (base64), to which the keys of sealed models are wrapped; None where it has none."""


@dataclass(frozen=True)
class SlotObservation:
    """What a device said its slot runs, and when. Observed state, never an order."""

    slot: str
    manifest_sha256: str | None
    version_id: VersionId | None
    updated_at: datetime
