"""How a machine becomes a device: one-time tokens, and the check of what it sends with one.

Device keys are P-256 because TPM 2.0 chips and secure elements have it. The certificate signing request
(RFC 2986) proves that the machine holds the private key; the rest of its content is not used.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import NewType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from controller.trust.errors import Refusal, RefusalCode
from device_agent.protocol.messages import EnrolmentToken, trust_pin

CSR_CHARACTERS_MAX = 8192


def new_enrolment_token(image_root: bytes, director_root: bytes) -> EnrolmentToken:
    """Return a token that pins both first root documents; its text is shown once, its secret never stored."""
    return EnrolmentToken(
        id=secrets.token_hex(8), secret=secrets.token_hex(24), pin=trust_pin(image_root, director_root)
    )


def secret_digest(secret: str) -> str:
    """Return the form in which a token's secret is stored: sha256, enough for 192 random bits."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def secret_matches(secret: str, digest: str) -> bool:
    """Say whether a secret is the one that was stored, in constant time."""
    return hmac.compare_digest(secret_digest(secret), digest)


@dataclass(frozen=True)
class DeviceKey:
    """The public key of a device."""

    pem: str
    """SubjectPublicKeyInfo in PEM."""
    fingerprint: str
    """sha256 over the DER form, hexadecimal."""


ProvenDeviceKey = NewType("ProvenDeviceKey", DeviceKey)
"""A P-256 key whose private half signed the request it came with."""


def read_csr(csr_pem: str) -> ProvenDeviceKey | Refusal:
    """Check a certificate signing request; return the key that it proves, or why it proves none."""
    if len(csr_pem) > CSR_CHARACTERS_MAX:
        return Refusal(RefusalCode.MALFORMED, f"{len(csr_pem)} characters; at most {CSR_CHARACTERS_MAX}")
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        public_key = csr.public_key()
        proven = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        return Refusal(RefusalCode.MALFORMED, f"not a certificate signing request in PEM: {error}")
    if not isinstance(public_key, EllipticCurvePublicKey) or not isinstance(public_key.curve, SECP256R1):
        return Refusal(RefusalCode.KEY_TYPE, "the key of a device must be on the curve P-256")
    if not proven:
        return Refusal(RefusalCode.SIGNATURE, "the request is not signed by the key it carries")
    pem = public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ProvenDeviceKey(DeviceKey(pem.decode(), hashlib.sha256(der).hexdigest()))
