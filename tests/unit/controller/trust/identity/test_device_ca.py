from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import example, given
from hypothesis import strategies as st

from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.device_ca import (
    CA_VALIDITY,
    CERTIFICATE_VALIDITY,
    URN,
    ClientCertificate,
    make_ca_certificate,
    make_device_certificate,
    serial_and_expiry,
    verify_client_certificate,
)
from tests.support.attacks import Group, plays

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CA_KEY, OTHER_CA_KEY, KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
CA, OTHER_CA = make_ca_certificate(CA_KEY, NOW), make_ca_certificate(OTHER_CA_KEY, NOW)
CA_PEM = CA.public_bytes(Encoding.PEM)


def pem_of(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def issued(device: str = "dv_1", now: datetime = NOW) -> bytes:
    return make_device_certificate(CA, CA_KEY, device, pem_of(KEY), now).public_bytes(Encoding.DER)


def altered(
    *,
    names: x509.SubjectAlternativeName | None,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    key: Any = KEY,
) -> bytes:
    """Return a certificate of the CA that is not as the CA makes it."""
    good = make_device_certificate(CA, CA_KEY, "dv_1", pem_of(KEY), NOW)
    builder = x509.CertificateBuilder().subject_name(good.subject).issuer_name(good.issuer).serial_number(7)
    builder = builder.public_key(key.public_key()).not_valid_before(NOW).not_valid_after(NOW + CERTIFICATE_VALIDITY)
    for extension in good.extensions:
        if extension.oid not in (x509.SubjectAlternativeName.oid, x509.ExtendedKeyUsage.oid):
            builder = builder.add_extension(extension.value, extension.critical)
    if names:
        builder = builder.add_extension(names, critical=True)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(CA_KEY, SHA256()).public_bytes(Encoding.DER)


def uri(*values: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(value) for value in values])


def code_of(der: bytes, now: datetime = NOW) -> str:
    found = verify_client_certificate(der, CA_PEM, now)
    return found.code if isinstance(found, Refusal) else "accepted"


def refused(der: bytes, *, ca: bytes = CA_PEM, now: datetime = NOW) -> str:
    found = verify_client_certificate(der, ca, now)
    assert isinstance(found, Refusal)
    assert found.code is RefusalCode.DEVICE_CERT
    return found.detail


def test_a_device_certificate_names_its_device_and_key_for_90_days() -> None:
    found = verify_client_certificate(issued(), CA_PEM, NOW + CERTIFICATE_VALIDITY)
    assert isinstance(found, ClientCertificate)
    assert (found.device, found.public_key_pem) == ("dv_1", pem_of(KEY))
    assert found.expires_at == NOW + timedelta(days=90)


def test_what_is_kept_of_a_certificate_is_what_is_found_in_it() -> None:
    found = verify_client_certificate(issued(), CA_PEM, NOW)
    assert isinstance(found, ClientCertificate)
    certificate = make_device_certificate(CA, CA_KEY, "dv_1", pem_of(KEY), NOW)
    serial, expires_at = serial_and_expiry(certificate.public_bytes(Encoding.PEM))
    assert (int(serial, 16), expires_at) == (certificate.serial_number, found.expires_at)


def test_an_old_ca_counts_beside_its_successor() -> None:
    both = OTHER_CA.public_bytes(Encoding.PEM) + CA_PEM
    assert isinstance(verify_client_certificate(issued(), both, NOW), ClientCertificate)


@plays(Group.IDENTITY, "a client certificate of another CA is shown", "E_DEVICE_CERT")
def test_a_certificate_of_another_ca_is_refused() -> None:
    der = make_device_certificate(OTHER_CA, OTHER_CA_KEY, "dv_1", pem_of(KEY), NOW).public_bytes(Encoding.DER)
    assert code_of(der) == "E_DEVICE_CERT"


def test_a_certificate_that_another_ca_signed_in_our_cas_name_is_refused() -> None:
    der = make_device_certificate(CA, OTHER_CA_KEY, "dv_1", pem_of(KEY), NOW).public_bytes(Encoding.DER)
    refused(der)


@pytest.mark.parametrize("now", [NOW + CERTIFICATE_VALIDITY + timedelta(seconds=1), NOW - timedelta(hours=1)])
@plays(Group.IDENTITY, "an expired client certificate is shown", "E_DEVICE_CERT")
def test_a_certificate_is_refused_after_its_end_and_before_its_beginning(now: datetime) -> None:
    assert code_of(issued(), now) == "E_DEVICE_CERT"
    assert "not valid at validation time" in refused(issued(), now=now)


def test_a_ca_that_has_expired_vouches_for_nobody() -> None:
    later = NOW + CA_VALIDITY + timedelta(days=1)
    refused(issued(now=later), now=later)


@plays(Group.IDENTITY, "a server's certificate of the device CA is shown as a client's", "E_DEVICE_CERT")
def test_a_servers_certificate_is_refused() -> None:
    der = altered(names=uri(f"{URN}dv_1"), usage=ExtendedKeyUsageOID.SERVER_AUTH)
    assert code_of(der) == "E_DEVICE_CERT"


def test_a_certificate_that_does_not_say_what_it_is_for_is_refused() -> None:
    refused(altered(names=uri(f"{URN}dv_1"), usage=None))


@pytest.mark.parametrize(
    "names",
    [
        None,
        uri("urn:other:device:dv_1"),
        uri(f"{URN}dv_1", f"{URN}dv_2"),
        x509.SubjectAlternativeName([x509.DNSName("dv_1.example.org")]),
    ],
    ids=["none", "another-urn", "two-devices", "a-host"],
)
@plays(Group.IDENTITY, "a client certificate that names no device, or two, is shown", "E_DEVICE_CERT")
def test_a_certificate_that_names_no_single_device_is_refused(names: x509.SubjectAlternativeName | None) -> None:
    assert code_of(altered(names=names)) == "E_DEVICE_CERT"


@plays(Group.IDENTITY, "a client certificate of an Ed25519 key is shown", "E_DEVICE_CERT")
def test_a_certificate_of_an_ed25519_key_is_refused() -> None:
    assert code_of(altered(names=uri(f"{URN}dv_1"), key=ed25519.Ed25519PrivateKey.generate())) == "E_DEVICE_CERT"


def test_a_certificate_of_a_p384_key_is_refused() -> None:
    refused(altered(names=uri(f"{URN}dv_1"), key=ec.generate_private_key(ec.SECP384R1())))


def test_the_ca_itself_is_no_device() -> None:
    refused(CA.public_bytes(Encoding.DER))


def test_no_certificate_is_made_for_a_key_that_is_not_on_p256() -> None:
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(ValueError, match="P-256"):
            make_device_certificate(CA, CA_KEY, "dv_1", pem_of(key), NOW)


GOOD = issued()


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # a hint of the library's; what matters is the refusal
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@example(15, 128)  # the first byte of the serial number: a negative one
def test_a_certificate_with_one_byte_changed_is_refused(place: int, byte: int) -> None:
    changed = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    found = verify_client_certificate(changed, CA_PEM, NOW)
    assert isinstance(found, Refusal) or changed == GOOD


@given(st.binary(max_size=600))
def test_any_bytes_are_refused_without_an_error(der: bytes) -> None:
    refused(der)


def test_an_endless_certificate_is_refused_unread() -> None:
    assert "at most 8192" in refused(bytes(9000))
