"""Who this device is: its keys, its name at the controller, and the two root documents its trust starts from.

    device.key             the P-256 private key (PKCS #8), made before enrolment, readable by the owner alone
    encryption.key         the X25519 private key, likewise: content keys are wrapped to it
    device.crt             the certificate of device.key, where the controller issues one
    identity/device.json   the device id and the controller it enrolled at
    identity/image-root.json, identity/director-root.json   exact bytes, as pinned by the enrolment token

`identity/` appears at once, by a rename, and is never changed afterwards. An enrolment that was interrupted is
repeated with the same key.
"""

import base64
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from device_agent.durable import move_directory_durably, replace_durably, write_synced
from device_agent.errors import EnrolmentError
from device_agent.protocol.dsse import pre_authentication_encoding
from device_agent.protocol.messages import (
    RENEWAL_PAYLOAD_TYPE,
    REPORT_PAYLOAD_TYPE,
    SESSION_PAYLOAD_TYPE,
    EnrolmentToken,
    trust_pin,
)

KEY_FILE = "device.key"
CERTIFICATE_FILE = "device.crt"
_ENCRYPTION_KEY_FILE = "encryption.key"
_IDENTITY = "identity"
_DEVICE_FILE = "device.json"
_IMAGE_ROOT_FILE = "image-root.json"
_DIRECTOR_ROOT_FILE = "director-root.json"


@dataclass(frozen=True)
class Enrolled:
    """What the controller answered to an enrolment."""

    device: str
    image_root: bytes
    director_root: bytes
    certificate: str | None = None
    """PEM; None where the controller issues none."""


@dataclass(frozen=True)
class Identity:
    """An enrolled device."""

    device: str
    controller_url: str
    image_root: bytes
    director_root: bytes
    key: ec.EllipticCurvePrivateKey

    @property
    def audience(self) -> str:
        """The controller as this device knows it, `scheme://host[:port]`: a signature for one is none for another."""
        parts = urlsplit(self.controller_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()

    def session_envelope(self, challenge: str) -> bytes:
        """Return the signed answer to a challenge: a DSSE envelope as JSON."""
        payload = {"device": self.device, "challenge": challenge, "audience": self.audience}
        return self._envelope(SESSION_PAYLOAD_TYPE, payload)

    def renewal_envelope(self) -> bytes:
        """Return the signed wish for a new certificate of the same key: a DSSE envelope as JSON."""
        payload = {"device": self.device, "csr_pem": signing_request(self.key, self.device)}
        return self._envelope(RENEWAL_PAYLOAD_TYPE, payload)

    def report_signature(self, body: bytes) -> str:
        """Return the signature that travels beside a report, as `messages.SIGNATURE_HEADER` says."""
        signed = pre_authentication_encoding(REPORT_PAYLOAD_TYPE, body)
        return base64.b64encode(self.key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()

    def _envelope(self, payload_type: str, payload: dict[str, Any]) -> bytes:
        envelope = Envelope(json.dumps(payload).encode(), payload_type, {})
        envelope.sign(CryptoSigner(self.key))
        return json.dumps(envelope.to_dict()).encode()


def device_key(state_dir: Path) -> ec.EllipticCurvePrivateKey:
    """Return the device's private key, made and stored durably on the first call."""
    path = state_dir / KEY_FILE
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise EnrolmentError(f"{path} is not a P-256 key; move it away and enrol again")
        return key
    key = ec.generate_private_key(ec.SECP256R1())
    _store_key(path, key)
    return key


def encryption_key(state_dir: Path) -> X25519PrivateKey:
    """Return the key that content keys are wrapped to, made and stored durably on the first call."""
    path = state_dir / _ENCRYPTION_KEY_FILE
    if path.exists():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(key, X25519PrivateKey):
            raise EnrolmentError(f"{path} is not an X25519 key; move it away and enrol again")
        return key
    key = X25519PrivateKey.generate()
    _store_key(path, key)
    return key


def encryption_key_text(key: X25519PrivateKey) -> str:
    """Return the public part as an enrolment request carries it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def _store_key(path: Path, key: ec.EllipticCurvePrivateKey | X25519PrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    replace_durably(path, pem, 0o600)


def signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    """Return a certificate signing request (PEM) that proves possession of the key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def load_identity(state_dir: Path) -> Identity | None:
    """Return the identity, None where the machine has not enrolled yet."""
    directory = state_dir / _IDENTITY
    if not directory.is_dir():
        return None
    about = json.loads((directory / _DEVICE_FILE).read_bytes())
    return Identity(
        device=about["device"],
        controller_url=about["controller"],
        image_root=(directory / _IMAGE_ROOT_FILE).read_bytes(),
        director_root=(directory / _DIRECTOR_ROOT_FILE).read_bytes(),
        key=device_key(state_dir),
    )


def store_identity(state_dir: Path, controller_url: str, token: EnrolmentToken, enrolled: Enrolled) -> Identity:
    """Keep what the controller answered, durably and once; EnrolmentError unless the roots fit the token's pin."""
    if trust_pin(enrolled.image_root, enrolled.director_root) != token.pin:
        raise EnrolmentError(
            f"the root documents of {controller_url} do not fit the token's pin: this is not the controller that "
            "made the token, or someone sits in between; check controller_url and make a new token"
        )
    if enrolled.certificate:
        # Before the identity: a machine that has one is never without its certificate.
        replace_durably(state_dir / CERTIFICATE_FILE, enrolled.certificate.encode())
    fresh = state_dir / f"{_IDENTITY}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    about = {"device": enrolled.device, "controller": controller_url}
    write_synced(fresh / _DEVICE_FILE, json.dumps(about).encode())
    write_synced(fresh / _IMAGE_ROOT_FILE, enrolled.image_root)
    write_synced(fresh / _DIRECTOR_ROOT_FILE, enrolled.director_root)
    move_directory_durably(fresh, state_dir / _IDENTITY)
    identity = load_identity(state_dir)
    assert identity is not None
    return identity
