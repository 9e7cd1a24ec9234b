"""What a device sends signed: DSSE envelopes under the one key that it was enrolled with."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from controller.trust.errors import Refusal, RefusalCode
from device_agent.protocol.dsse import parse_envelope
from device_agent.protocol.errors import Code, ProtocolError


def read_device_envelope(raw: bytes, payload_type: str, *, bytes_max: int, role: str) -> Envelope | Refusal:
    """Return an envelope of this type whose signature is still to be checked, or why it is none."""
    try:
        return parse_envelope(raw, payload_type=payload_type, bytes_max=bytes_max, role=role)
    except ProtocolError as error:
        is_foreign = error.code is Code.WRONG_TYPE
        return Refusal(RefusalCode.WRONG_TYPE if is_foreign else RefusalCode.MALFORMED, str(error))


def is_signed_by(envelope: Envelope, public_key_pem: str) -> bool:
    """Tell whether this key signed the envelope; a key that cannot be read signed nothing."""
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(public_key_pem.encode()))
        envelope.verify([key], threshold=1)
    except (VerificationError, UnsupportedAlgorithm, ValueError):
        return False
    return True
