"""Reading assignments quickly: the signer reads each one before it signs it, and signs thousands a second.

What is read the quick way is encoded again and compared with what came, so that nothing can hide in it: no field twice,
no field that is not known, no second way to write a number. What does not come back the same is read by the devices'
own reader, which costs several times as much.
"""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from device_agent.protocol.assignment import parse_assignment
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import parse_utc


class ReadSlot(msgspec.Struct, forbid_unknown_fields=True):
    """What one slot shall run, as the signer needs it."""

    target: str
    length: int
    sha256: str
    soak_s: float
    reason: str
    release: int
    content_key: str | None


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    device: str
    counter: int
    issued: str
    expires: str
    slots: dict[str, ReadSlot | None]
    poll_s: float
    hardware: str
    channel: str


@dataclass(frozen=True, slots=True)
class ReadAssignment:
    """An assignment in its one encoding."""

    device: str
    counter: int
    issued: datetime
    expires: datetime
    slots: dict[str, ReadSlot | None]


_decoder = msgspec.json.Decoder(_Payload)
_encoder = msgspec.json.Encoder(order="sorted")


def read_assignment(payload: bytes) -> ReadAssignment:
    """Return the assignment; ProtocolError for anything that is not one, in the encoding of `Assignment.to_payload`."""
    try:
        read = _decoder.decode(payload)
        if read.schema == 1 and _encoder.encode(read) == payload:
            issued, expires = parse_utc(read.issued), parse_utc(read.expires)
            return ReadAssignment(read.device, read.counter, issued, expires, read.slots)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass  # the careful reader says what is wrong, where anything is
    return _read_carefully(payload)


def _read_carefully(payload: bytes) -> ReadAssignment:
    assignment = parse_assignment(payload)
    if assignment.to_payload() != payload:
        message = f"the assignment of {assignment.device} is not in its one encoding"
        raise ProtocolError(Code.MALFORMED, message, role="assignment")
    slots = {name: ReadSlot(**vars(slot)) if slot else None for name, slot in assignment.slots.items()}
    return ReadAssignment(assignment.device, assignment.counter, assignment.issued, assignment.expires, slots)
