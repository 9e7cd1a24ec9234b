"""What time it is, said by the director to one device that asked: a signed answer that carries the asker's nonce.

A device whose clock is wrong cannot tell an old document from a new one; an answer that names a nonce which the
device has just made up cannot be an old one (Uptane standard, section "Time server").
"""

import json
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Root

from device_agent.protocol.dsse import open_envelope
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields, format_utc

TIME_PAYLOAD_TYPE = "application/vnd.edgefleet.time.v1+json"
TIME_ANSWER_BYTES_MAX = 4096
_ROLE = "time"


@dataclass(frozen=True)
class TimeAnswer:
    """The director's time, and whose question it answers."""

    nonce: str
    now: datetime

    def to_payload(self) -> bytes:
        """Return the bytes that are signed."""
        body = {"nonce": self.nonce, "now": format_utc(self.now)}
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def verify_time_answer(raw: bytes, *, root: Root, nonce: str) -> datetime:
    """Return the director's time.

    Raises ProtocolError: ENDLESS_DATA, MALFORMED, WRONG_TYPE, KEY_REUSE or SIGNATURE as for an assignment, TIME_REPLAY
    where the answer carries another nonce than the one that was sent.
    """
    payload = open_envelope(raw, root=root, payload_type=TIME_PAYLOAD_TYPE, bytes_max=TIME_ANSWER_BYTES_MAX, role=_ROLE)
    fields = Fields.from_json(payload, _ROLE)
    answered = fields.text("nonce", most=128)
    if answered != nonce:
        raise ProtocolError(Code.TIME_REPLAY, f"it answers {answered!r}, the question was {nonce!r}", role=_ROLE)
    return fields.moment("now")
