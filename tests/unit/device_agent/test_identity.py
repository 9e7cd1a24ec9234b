"""Who the device is: a key of its own, and roots that fit the token's pin, kept all at once."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from device_agent.errors import EnrolmentError
from device_agent.identity import (
    Enrolled,
    device_key,
    encryption_key,
    encryption_key_text,
    load_identity,
    signing_request,
    store_identity,
)
from device_agent.protocol.dsse import pre_authentication_encoding
from device_agent.protocol.messages import (
    REPORT_PAYLOAD_TYPE,
    SESSION_PAYLOAD_TYPE,
    X25519_KEY,
    EnrolmentToken,
    trust_pin,
)

ENROLLED = Enrolled("dv_1", b"image root", b"director root")
TOKEN = EnrolmentToken("id", "secret", trust_pin(b"image root", b"director root"))


def test_the_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    key = device_key(tmp_path)
    assert isinstance(key.curve, ec.SECP256R1)
    assert device_key(tmp_path).private_numbers() == key.private_numbers()
    assert (tmp_path / "device.key").stat().st_mode & 0o777 == 0o600


def test_a_key_of_another_kind_is_refused_with_a_remedy(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "device.key").write_bytes(pem)
    with pytest.raises(EnrolmentError, match="move it away"):
        device_key(tmp_path)


def test_the_signing_request_proves_possession_of_the_key(tmp_path: Path) -> None:
    key = device_key(tmp_path)
    request = x509.load_pem_x509_csr(signing_request(key, "cam-1").encode())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()


def test_an_identity_is_kept_with_exact_roots(tmp_path: Path) -> None:
    assert load_identity(tmp_path) is None
    stored = store_identity(tmp_path, "http://controller", TOKEN, ENROLLED)
    again = load_identity(tmp_path)
    assert again
    assert (again.device, again.controller_url) == ("dv_1", "http://controller")
    assert (again.image_root, again.director_root) == (b"image root", b"director root")
    assert again.key.private_numbers() == stored.key.private_numbers()


def test_roots_that_do_not_fit_the_pin_leave_no_identity(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="do not fit the token's pin"):
        store_identity(tmp_path, "http://c", TOKEN, Enrolled("dv_1", b"image root", b"another root"))
    assert load_identity(tmp_path) is None


def test_an_interrupted_enrolment_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "identity.new").mkdir()
    (tmp_path / "identity.new" / "device.json").write_text("{")
    assert store_identity(tmp_path, "http://c", TOKEN, ENROLLED).device == "dv_1"


def test_a_session_envelope_is_signed_by_the_device_over_the_challenge(tmp_path: Path) -> None:
    identity = store_identity(tmp_path, "http://c", TOKEN, ENROLLED)
    envelope = Envelope.from_dict(json.loads(identity.session_envelope("c-1")))
    envelope.verify([SSlibKey.from_crypto(identity.key.public_key())], 1)
    assert envelope.payload_type == SESSION_PAYLOAD_TYPE
    expected = {"device": "dv_1", "challenge": "c-1", "audience": "http://c"}
    assert json.loads(envelope.payload) == expected


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://Fleet.Example:8443/base/", "https://fleet.example:8443"),
        ("http://127.0.0.1:8600", "http://127.0.0.1:8600"),
        ("https://user:pw@fleet.example", "https://fleet.example"),
    ],
)
def test_the_audience_is_the_controllers_scheme_and_host(tmp_path: Path, url: str, audience: str) -> None:
    assert store_identity(tmp_path, url, TOKEN, ENROLLED).audience == audience


def test_a_report_signature_is_the_devices_over_the_type_and_the_body(tmp_path: Path) -> None:
    identity = store_identity(tmp_path, "http://c", TOKEN, ENROLLED)
    signature = base64.b64decode(identity.report_signature(b"{}"))
    signed = b"DSSEv1 40 application/vnd.edgefleet.report.v1+json 2 {}"
    assert pre_authentication_encoding(REPORT_PAYLOAD_TYPE, b"{}") == signed
    identity.key.public_key().verify(signature, signed, ec.ECDSA(hashes.SHA256()))


def test_the_encryption_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    key = encryption_key(tmp_path)
    assert encryption_key_text(encryption_key(tmp_path)) == encryption_key_text(key)
    assert X25519_KEY.fullmatch(encryption_key_text(key))
    assert (tmp_path / "encryption.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "encryption.key").write_bytes((device_key(tmp_path), tmp_path / "device.key")[1].read_bytes())
    with pytest.raises(EnrolmentError, match="move it away"):
        encryption_key(tmp_path)


def test_a_certificate_is_kept_beside_the_key_before_the_identity_is(tmp_path: Path) -> None:
    store_identity(tmp_path, "http://c", TOKEN, replace(ENROLLED, certificate="PEM"))
    assert (tmp_path / "device.crt").read_text() == "PEM"
