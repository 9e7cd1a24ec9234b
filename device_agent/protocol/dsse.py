"""Opening signed envelopes (secure-systems-lab DSSE v1), and signatures that travel beside what they sign.

Three rules that the library leaves to its caller are kept here: the payload type is checked before anything is
believed, every malformed envelope is refused alike, and no key counts twice because it has two ids.
"""

import json

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from tuf.api.metadata import Root

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.key_material import counts_a_key_twice


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that DSSE signs: the type and the payload, each with its length (DSSE v1, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def open_envelope(raw: bytes, *, root: Root, payload_type: str, bytes_max: int, role: str) -> bytes:
    """Return the payload that the threshold of `root`'s `targets` keys has signed.

    Raises ProtocolError with `role`: ENDLESS_DATA, MALFORMED, WRONG_TYPE, KEY_REUSE, SIGNATURE.
    """
    envelope = parse_envelope(raw, payload_type=payload_type, bytes_max=bytes_max, role=role)
    delegated = root.roles["targets"]
    keys = [root.keys[keyid] for keyid in delegated.keyids if keyid in root.keys]
    if counts_a_key_twice(delegated, root.keys):
        # One private key under two ids would satisfy a threshold of two.
        raise ProtocolError(Code.KEY_REUSE, "the director's root names one key twice", role=role)
    try:
        envelope.verify(keys, delegated.threshold)
    except (VerificationError, ValueError) as error:
        raise ProtocolError(Code.SIGNATURE, str(error), role=role) from error
    payload: bytes = envelope.payload
    return payload


def parse_envelope(raw: bytes, *, payload_type: str, bytes_max: int, role: str) -> Envelope:
    """Return an envelope of this type, whose signatures are still to be verified."""
    if len(raw) > bytes_max:
        raise ProtocolError(Code.ENDLESS_DATA, f"{len(raw)} bytes; at most {bytes_max}", role=role)
    try:
        envelope = Envelope.from_dict(json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolError(Code.MALFORMED, f"not a DSSE envelope: {error!r}", role=role) from error
    if envelope.payload_type != payload_type:
        raise ProtocolError(
            Code.WRONG_TYPE, f"payload type {envelope.payload_type!r}; expected {payload_type}", role=role
        )
    return envelope
