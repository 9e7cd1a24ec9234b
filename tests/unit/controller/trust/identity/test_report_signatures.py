import base64

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from controller.trust.identity.report_signatures import is_report_signed, load_report_key
from device_agent.protocol.dsse import pre_authentication_encoding
from device_agent.protocol.messages import SESSION_PAYLOAD_TYPE
from tests.support.machines import signature_of

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
BODY = b'{"schema":1}'


def is_signed(body: bytes, signature: bytes) -> bool:
    key = load_report_key(PEM)
    assert key
    return is_report_signed(key, body, signature)


def test_the_devices_own_signature_counts() -> None:
    assert is_signed(BODY, signature_of(KEY, BODY).encode())


def test_a_body_that_was_changed_does_not() -> None:
    assert not is_signed(BODY + b" ", signature_of(KEY, BODY).encode())


def test_another_devices_signature_does_not() -> None:
    assert not is_signed(BODY, signature_of(ec.generate_private_key(ec.SECP256R1()), BODY).encode())


def test_a_signature_that_was_made_for_a_session_does_not() -> None:
    signed = KEY.sign(pre_authentication_encoding(SESSION_PAYLOAD_TYPE, BODY), ec.ECDSA(hashes.SHA256()))
    assert not is_signed(BODY, base64.b64encode(signed))


def test_a_signature_of_the_bare_body_does_not() -> None:
    assert not is_signed(BODY, base64.b64encode(KEY.sign(BODY, ec.ECDSA(hashes.SHA256()))))


@pytest.mark.parametrize("signature", [b"", b"=", b"no base64", b"\xff", b"A" * 10_000])
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    assert not is_signed(BODY, signature)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_without_an_error(signature: bytes) -> None:
    assert not is_signed(BODY, signature)
    assert not is_signed(BODY, base64.b64encode(signature))


def test_a_key_of_another_kind_or_no_key_signs_nothing() -> None:
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    assert load_report_key(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()) is None
    assert load_report_key("no key") is None
