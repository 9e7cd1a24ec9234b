"""The certificates of devices: what they look like, and which one a proxy may vouch for.

A device's certificate says that a P-256 key is the device's, for 90 days. It is asked for only where TLS ends at a
proxy that checks client certificates; sessions and reports are signed with the same key in any case.
P-256 because `cryptography`'s verifier, which follows the WebPKI profile, refuses Ed25519.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from controller.trust.errors import Refusal, RefusalCode

CERTIFICATE_VALIDITY = timedelta(days=90)
RENEW_AFTER = timedelta(days=60)
CA_VALIDITY = timedelta(days=3650)
BACKDATED = timedelta(minutes=10)
"""A device whose clock is a little behind shall not find its certificate to be of tomorrow."""
CERTIFICATE_BYTES_MAX = 8 * 1024
URN = "urn:edgefleet:device:"
_DIGITAL_SIGNATURE = {"digital_signature": True, "key_cert_sign": False, "crl_sign": False}
_CERTIFICATE_SIGN = {"digital_signature": False, "key_cert_sign": True, "crl_sign": True}
_OTHER_USAGES = {
    "content_commitment": False,
    "key_encipherment": False,
    "data_encipherment": False,
    "key_agreement": False,
    "encipher_only": False,
    "decipher_only": False,
}


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate of ours that holds at this moment."""

    device: str
    serial: str
    """In hexadecimal."""
    expires_at: datetime
    public_key_pem: str


def make_ca_certificate(key: EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return the device CA's own certificate; it signs certificates of devices and no further CA."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Edgefleet device CA")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CA_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**_CERTIFICATE_SIGN, **_OTHER_USAGES), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_authority(identifier), critical=False)
    )
    return builder.sign(key, SHA256())


def make_device_certificate(
    ca: x509.Certificate, ca_key: EllipticCurvePrivateKey, device: str, public_key_pem: str, now: datetime
) -> x509.Certificate:
    """Return the certificate of a device's key. ValueError when the key is not on the curve P-256."""
    key = load_pem_public_key(public_key_pem.encode())
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("the key of a device must be on the curve P-256")  # noqa: TRY004 - it is the value
    authority = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + CERTIFICATE_VALIDITY)
        # Critical, because the subject is empty (RFC 5280, section 4.2.1.6).
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URN + device)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**_DIGITAL_SIGNATURE, **_OTHER_USAGES), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(_authority(authority), critical=False)
    )
    return builder.sign(ca_key, SHA256())


def serial_and_expiry(certificate_pem: bytes) -> tuple[str, datetime]:
    """Return what is kept of a certificate: its serial number in hexadecimal, and when it ends."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return f"{certificate.serial_number:x}", certificate.not_valid_after_utc


def verify_client_certificate(der: bytes, ca_pem: bytes, now: datetime) -> ClientCertificate | Refusal:
    """Return the certificate if one of the CAs issued it for a device and it holds now, else why it does not count.

    `ca_pem` may hold several certificates: an old CA and its successor.
    """
    if len(der) > CERTIFICATE_BYTES_MAX:
        return _refused(f"{len(der)} bytes; at most {CERTIFICATE_BYTES_MAX}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        authorities = Store(x509.load_pem_x509_certificates(ca_pem))
        verifier = PolicyBuilder().store(authorities).time(now).max_chain_depth(0).build_client_verifier()
        verified = verifier.verify(certificate, [])
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, VerificationError) as error:
        return _refused(str(error))
    names = [name.value for name in verified.subjects or [] if isinstance(name, x509.UniformResourceIdentifier)]
    if len(names) != 1 or len(verified.subjects or []) != 1 or not names[0].startswith(URN):
        return _refused(f"it names no single device as {URN}ID")
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        return _refused("its key is not on the curve P-256")
    if not _is_for_clients(certificate):
        return _refused("it is not meant for TLS clients")
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    serial = f"{certificate.serial_number:x}"
    return ClientCertificate(names[0].removeprefix(URN), serial, certificate.not_valid_after_utc, pem)


def _is_for_clients(certificate: x509.Certificate) -> bool:
    # The verifier lets a certificate pass that says nothing of its use.
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CLIENT_AUTH in usage


def _authority(identifier: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _refused(detail: str) -> Refusal:
    return Refusal(RefusalCode.DEVICE_CERT, f"the client certificate does not count: {detail}")
