"""A signed approval: a person's statement, under a key of their own, that devices may be given these manifests.

It is asked for where the signer knows approvers: then neither the controller's database nor an operator's token is
enough to assign a released version. The statement travels in a DSSE envelope (compact JSON), kept with its rollout.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.dsse import Envelope
from securesystemslib.signer import Signer

from device_agent.protocol.dsse import parse_envelope
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields, format_utc

PAYLOAD_TYPE = "application/vnd.edgefleet.approval.v1+json"
ENVELOPE_BYTES_MAX = 64 * 1024
_ROLE = "approval"


@dataclass(frozen=True)
class Approval:
    """What was approved, and until when it holds."""

    rollout: str
    manifests: tuple[str, ...]
    """sha256 of each manifest that devices may be given, hexadecimal."""
    expires: datetime


def sign_approval(signer: Signer, approval: Approval) -> str:
    """Return the envelope's text, signed with the approver's key."""
    envelope = Envelope(approval_payload(approval.rollout, approval.manifests, approval.expires), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":"))


def approval_payload(rollout: str, manifests: Iterable[str], expires: datetime) -> bytes:
    """Return what is signed: JSON with sorted keys and no spaces."""
    said = {"rollout": rollout, "manifests": sorted(set(manifests)), "expires": format_utc(expires)}
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def open_approval(text: str | bytes) -> tuple[Envelope, Approval]:
    """Return the envelope, whose signatures are still to be verified, and what it says; ProtocolError if malformed."""
    raw = text.encode("utf-8", "replace") if isinstance(text, str) else text
    envelope = parse_envelope(raw, payload_type=PAYLOAD_TYPE, bytes_max=ENVELOPE_BYTES_MAX, role=_ROLE)
    return envelope, read_approval(envelope.payload)


def read_approval(payload: bytes) -> Approval:
    """Return what a payload says; ProtocolError names the field that does not fit."""
    said = Fields.from_json(payload, _ROLE)
    manifests = said.texts("manifests")
    if not all(SHA256_HEX.fullmatch(digest) for digest in manifests):
        raise ProtocolError(Code.MALFORMED, "approval.manifests holds something else than sha256 digests", role=_ROLE)
    return Approval(said.text("rollout", most=64), manifests, said.moment("expires"))
