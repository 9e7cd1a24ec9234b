"""The assignment: what one device shall run now, signed for that device alone.

`verify_assignment` takes bytes and returns a VerifiedAssignment, the only type that the agent acts on.
Rules, checked in this order, the first that fails decides:

 1. at most ASSIGNMENT_BYTES_MAX bytes, a DSSE envelope (secure-systems-lab DSSE v1), our payload type
 2. signed by the threshold of distinct director keys
 3. the payload has every field in its form
 4. it names this device, the class of hardware that this device is, and the channel that its owner chose
 5. every slot's target lies in a channel that this device accepts (`Channel`)
 6. its counter is not below the highest one seen under the same director keys, and an equal counter has
    equal content (Uptane standard, section "Full verification", step on version numbers)
 7. it was not issued in the future (ISSUED_AHEAD) and has not expired

The counter's memory is tied to the director keys, so that rotating them recovers from a fast-forward.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NewType

from tuf.api.metadata import Root

from device_agent.protocol.channels import Channel
from device_agent.protocol.dsse import open_envelope
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields, format_utc
from device_agent.protocol.manifest import NAME

PAYLOAD_TYPE = "application/vnd.edgefleet.assignment.v1+json"
ASSIGNMENT_BYTES_MAX = 64 * 1024
VALIDITY = timedelta(hours=48)
"""How long a device may be held on an old assignment by whoever blocks its link (freeze bound)."""
ISSUED_AHEAD = timedelta(minutes=10)


@dataclass(frozen=True)
class SlotAssignment:
    """The manifest that one slot shall run. The image repository must sign the same path, length and hash."""

    target: str
    length: int
    sha256: str
    soak_s: float
    """How long the model must stay healthy on the device before it counts as healthy."""
    reason: str
    """What decided it, for people: `rollout ro_... stage 2` or `pin pi_...`."""
    release: int
    """The release counter, which is the version's number; the image repository must sign the same one."""
    content_key: str | None = None
    """The key of the sealed artifacts, wrapped for this device alone (base64); None where nothing is sealed."""

    @classmethod
    def read(cls, fields: Fields) -> "SlotAssignment":
        """Read one slot."""
        return cls(
            fields.text("target", most=256),
            fields.integer("length", least=1),
            fields.text("sha256", pattern=SHA256_HEX),
            fields.number("soak_s", most=30 * 86_400),
            fields.text("reason", most=256),
            fields.integer("release", least=1),
            fields.optional_text("content_key", most=4096),
        )


@dataclass(frozen=True)
class Assignment:
    """What one device shall run. A slot that is not named keeps what it runs; a slot of None runs nothing."""

    device: str
    counter: int
    issued: datetime
    expires: datetime
    slots: dict[str, SlotAssignment | None]
    poll_s: float
    """How often the controller asks this device to poll; the agent clamps it to its own bounds."""
    hardware: str
    """Name of the device's profile."""
    channel: Channel
    """The channel that the device was enrolled for."""

    def to_payload(self) -> bytes:
        """Return the bytes that are signed."""
        body: dict[str, Any] = {
            "schema": 1,
            "device": self.device,
            "counter": self.counter,
            "issued": format_utc(self.issued),
            "expires": format_utc(self.expires),
            # Seconds are written as `60.0` whoever made the number, or one assignment would have two encodings.
            "slots": {name: slot and {**vars(slot), "soak_s": float(slot.soak_s)} for name, slot in self.slots.items()},
            "poll_s": float(self.poll_s),
            "hardware": self.hardware,
            "channel": self.channel,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


VerifiedAssignment = NewType("VerifiedAssignment", Assignment)
"""An assignment that passed every rule of this page."""


@dataclass(frozen=True)
class CounterMark:
    """The newest assignment that this device has accepted, kept durably before it is acted on."""

    epoch: str
    """Which director keys it was accepted under."""
    counter: int
    digest: str
    """sha256 of the payload."""


def director_epoch(root: Root) -> str:
    """Name the current director keys; it changes when, and only when, they are rotated."""
    return hashlib.sha256("".join(sorted(root.roles["targets"].keyids)).encode()).hexdigest()[:16]


def parse_assignment(payload: bytes) -> Assignment:
    """Read a payload strictly, without any trust in it."""
    fields = Fields.from_json(payload, "assignment")
    fields.integer("schema", least=1, most=1)
    slots = fields.named_children("slots", SlotAssignment.read)
    for name in slots:
        if not NAME.fullmatch(name):
            raise ProtocolError(Code.MALFORMED, f"slot is named {name!r}", role="assignment")
    return Assignment(
        device=fields.text("device", most=64),
        counter=fields.integer("counter", least=1),
        issued=fields.moment("issued"),
        expires=fields.moment("expires"),
        slots=slots,
        poll_s=fields.number("poll_s", least=0.05, most=86_400),
        hardware=fields.text("hardware", pattern=NAME),
        channel=fields.one_of("channel", Channel),
    )


@dataclass(frozen=True)
class Recipient:
    """What a device knows of itself, and what an assignment for it must say."""

    device: str
    hardware: str
    """Name of its profile."""
    channel: Channel


def verify_assignment(
    raw: bytes, *, root: Root, recipient: Recipient, mark: CounterMark | None, now: datetime
) -> tuple[VerifiedAssignment, CounterMark]:
    """Check the envelope by the rules above; return the assignment and the mark to store before acting.

    `root` is the director's verified root, `recipient` what this device is, `mark` the last stored one, `now` the
    device's best knowledge of time. Raises ProtocolError with the code of the first rule that fails.
    """
    payload = open_envelope(
        raw, root=root, payload_type=PAYLOAD_TYPE, bytes_max=ASSIGNMENT_BYTES_MAX, role="assignment"
    )
    assignment = parse_assignment(payload)
    _check_recipient(assignment, recipient)
    seen = CounterMark(director_epoch(root), assignment.counter, hashlib.sha256(payload).hexdigest())
    if mark and mark.epoch == seen.epoch:
        if seen.counter < mark.counter:
            raise _refused(Code.ROLLBACK, f"counter {seen.counter} is below {mark.counter}, seen before")
        if seen.counter == mark.counter and seen.digest != mark.digest:
            raise _refused(Code.EQUIVOCATION, f"two different assignments carry counter {seen.counter}")
    if assignment.issued > now + ISSUED_AHEAD:
        raise _refused(Code.CLOCK, f"issued {format_utc(assignment.issued)}, ahead of {format_utc(now)} here")
    if now >= assignment.expires:
        raise _refused(Code.EXPIRED, f"expired at {format_utc(assignment.expires)}")
    return VerifiedAssignment(assignment), seen


def _check_recipient(assignment: Assignment, own: Recipient) -> None:
    if assignment.device != own.device:
        raise _refused(Code.WRONG_DEVICE, f"it is for {assignment.device}, this is {own.device}")
    if assignment.hardware != own.hardware:
        raise _refused(Code.WRONG_HARDWARE, f"it is for a {assignment.hardware}, this is a {own.hardware}")
    if assignment.channel != own.channel:
        raise _refused(Code.CHANNEL, f"it is for the channel {assignment.channel}, this device is on {own.channel}")
    for slot, assigned in assignment.slots.items():
        if assigned and not own.channel.accepts(assigned.target):
            message = f"slot {slot} is assigned {assigned.target}, and this device is on channel {own.channel}"
            raise _refused(Code.CHANNEL, message)


def _refused(code: Code, message: str) -> ProtocolError:
    return ProtocolError(code, message, role="assignment")
