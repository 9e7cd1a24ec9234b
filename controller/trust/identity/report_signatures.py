"""The signature of a report: beside the body in a header, so that the body is signed as it travels.

It covers DSSE's pre-authentication encoding of the body under the payload type of reports, so a signature that the
device made for anything else never passes as one of a report.
"""

import base64
import binascii

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from device_agent.protocol.dsse import pre_authentication_encoding
from device_agent.protocol.messages import REPORT_PAYLOAD_TYPE

SIGNATURE_CHARACTERS_MAX = 128
"""A P-256 signature in DER has at most 72 bytes."""
_ALGORITHM = ECDSA(SHA256())


def load_report_key(public_key_pem: str) -> EllipticCurvePublicKey | None:
    """Return a device's key, ready to verify with; None when it is no key on a curve."""
    try:
        key = load_pem_public_key(public_key_pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, EllipticCurvePublicKey) else None


def is_report_signed(key: EllipticCurvePublicKey, body: bytes, signature: bytes) -> bool:
    """Tell whether the header's value is this key's signature of the body."""
    if len(signature) > SIGNATURE_CHARACTERS_MAX:
        return False
    try:
        key.verify(
            base64.b64decode(signature, validate=True),
            pre_authentication_encoding(REPORT_PAYLOAD_TYPE, body),
            _ALGORITHM,
        )
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
