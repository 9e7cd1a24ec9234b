import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.enrolment import new_enrolment_token, read_csr, secret_digest, secret_matches
from device_agent.protocol.messages import EnrolmentToken, trust_pin

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def csr_of(key: Key) -> x509.CertificateSigningRequest:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera-7")])
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, algorithm)


def pem_of(csr: x509.CertificateSigningRequest) -> str:
    return csr.public_bytes(Encoding.PEM).decode()


def refusal(csr_pem: str) -> RefusalCode:
    result = read_csr(csr_pem)
    assert isinstance(result, Refusal)
    return result.code


def test_a_token_pins_both_roots_and_survives_its_text_form() -> None:
    token = new_enrolment_token(b"image root", b"director root")
    assert token.pin == trust_pin(b"image root", b"director root")
    assert EnrolmentToken.parse(str(token)) == token


def test_no_two_tokens_are_alike() -> None:
    one, other = (new_enrolment_token(b"i", b"d") for _ in range(2))
    assert one.id != other.id
    assert one.secret != other.secret
    assert len(one.secret) * 4 >= 160


def test_a_secret_is_known_again_by_its_digest_alone() -> None:
    token = new_enrolment_token(b"i", b"d")
    digest = secret_digest(token.secret)
    assert token.secret not in digest
    assert secret_matches(token.secret, digest)
    assert not secret_matches(token.secret[:-1], digest)


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_is_a_wrong_secret_without_an_error(text: str) -> None:
    assert not secret_matches(text, secret_digest("the secret"))


def test_a_p256_request_proves_its_key() -> None:
    private_key = ec.generate_private_key(ec.SECP256R1())
    key = read_csr(pem_of(csr_of(private_key)))
    assert not isinstance(key, Refusal)
    assert load_pem_public_key(key.pem.encode()) == private_key.public_key()
    der = private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key.fingerprint == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["p384", "ed25519", "rsa"],
)
def test_another_kind_of_key_is_refused(key: Key) -> None:
    assert refusal(pem_of(csr_of(key))) is RefusalCode.KEY_TYPE


def test_a_request_signed_by_another_key_is_refused() -> None:
    one, other = (csr_of(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    der = one.public_bytes(Encoding.DER)
    signature_of = {csr: csr.signature for csr in (one, other)}
    while len(signature_of[one]) != len(signature_of[other]):
        other = csr_of(ec.generate_private_key(ec.SECP256R1()))
        signature_of[other] = other.signature
    forged = x509.load_der_x509_csr(der.replace(one.signature, other.signature))
    assert refusal(pem_of(forged)) is RefusalCode.SIGNATURE


def test_a_request_over_the_size_limit_is_refused_unread() -> None:
    assert refusal(pem_of(csr_of(ec.generate_private_key(ec.SECP256R1()))) + " " * 8192) is RefusalCode.MALFORMED


@given(st.text(st.characters(exclude_categories=())))
def test_any_other_text_is_malformed(text: str) -> None:
    assert refusal(text) is RefusalCode.MALFORMED


PEM_LINES = pem_of(csr_of(ec.generate_private_key(ec.SECP256R1()))).splitlines()


@given(st.integers(0, 10_000), st.characters())
def test_a_request_with_one_character_changed_proves_no_other_key(place: int, character: str) -> None:
    pem = "\n".join(PEM_LINES)
    place %= len(pem)
    result = read_csr(pem[:place] + character + pem[place + 1 :])
    assert isinstance(result, Refusal) or result == read_csr(pem)
