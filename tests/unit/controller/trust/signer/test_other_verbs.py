import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Root

from controller.trust.custody.keys import KeyName, KeyStore
from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from controller.trust.identity.device_ca import ClientCertificate, verify_client_certificate
from controller.trust.signer.interface import StatementKind
from controller.trust.signer.verbs import LocalSigner, open_local_signer
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.time_answer import verify_time_answer
from tests.support.image_repositories import NOW

SLSA = "https://slsa.dev/provenance/v1"
MODEL_SIGNING = "https://model_signing/signature/v1.0"


@pytest.fixture
def signer(tmp_path: Path) -> LocalSigner:
    """Return a signer without anything published; these verbs need nothing of it."""
    return open_local_signer(tmp_path / "signer", tmp_path / "tuf", clock=lambda: NOW)


def pem_of(key: Key) -> str:
    return str(key.keyval["public"])


def device_pem() -> str:
    return pem_of(CryptoSigner.generate_ecdsa().public_key)


def der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_the_time_is_said_to_the_nonce_that_asked(signer: LocalSigner) -> None:
    root = Root()
    root.add_key(signer.public_key(KeyName.DIRECTOR), "targets")
    answer = signer.sign_time("0123abcd")
    assert verify_time_answer(answer, root=root, nonce="0123abcd") == NOW
    with pytest.raises(ProtocolError) as replayed:
        verify_time_answer(answer, root=root, nonce="another")
    assert replayed.value.code is Code.TIME_REPLAY


@pytest.mark.parametrize("nonce", ["", "x" * 129, "a\nb"])
def test_a_nonce_that_is_none_is_refused(signer: LocalSigner, nonce: str) -> None:
    with pytest.raises(SignerRefused) as found:
        signer.sign_time(nonce)
    assert found.value.code == SignerCode.CONTENT


def test_a_certificate_is_one_that_the_ca_vouches_for(signer: LocalSigner, tmp_path: Path) -> None:
    pem = device_pem()
    certificate = signer.issue_certificate("dv_1", pem)
    shown = verify_client_certificate(der(certificate), signer.ca_certificate(), NOW + timedelta(days=89))
    assert isinstance(shown, ClientCertificate)
    assert (shown.device, shown.public_key_pem.strip()) == ("dv_1", pem.strip())
    again = open_local_signer(tmp_path / "signer", tmp_path / "tuf", clock=lambda: NOW)
    assert again.ca_certificate() == signer.ca_certificate()
    assert '"kind":"certificate"' in (tmp_path / "signer/journal.jsonl").read_text()


def test_a_new_ca_key_has_a_new_certificate_and_the_old_one_still_counts(signer: LocalSigner, tmp_path: Path) -> None:
    old = signer.issue_certificate("dv_1", device_pem())
    keys = KeyStore(tmp_path / "signer" / "keys")
    keys.prepare_next(KeyName.DEVICE_CA)
    keys.promote(KeyName.DEVICE_CA)
    new = signer.issue_certificate("dv_2", device_pem())
    for certificate in (old, new):
        shown = verify_client_certificate(der(certificate), signer.ca_certificate(), NOW)
        assert isinstance(shown, ClientCertificate)


def test_a_key_that_is_no_p256_key_gets_no_certificate(signer: LocalSigner) -> None:
    other = generate_private_key(SECP384R1()).public_key()
    pems = [
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        "no key",
        pem_of(CryptoSigner.generate_rsa().public_key),
    ]
    for pem in pems:
        with pytest.raises(SignerRefused) as found:
            signer.issue_certificate("dv_1", pem)
        assert found.value.code == SignerCode.CONTENT


@pytest.mark.parametrize("device", ["", "x" * 65, "dv\n1", "dv_ä"])
def test_an_id_that_is_none_gets_no_certificate(signer: LocalSigner, device: str) -> None:
    with pytest.raises(SignerRefused):
        signer.issue_certificate(device, device_pem())


def statement(predicate: str, **fields: object) -> bytes:
    subject = [{"name": "model.onnx", "digest": {"sha256": "a" * 64}}]
    body = {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate, "predicate": {}}
    return json.dumps({**body, **fields}).encode()


@pytest.mark.parametrize(
    ("kind", "predicate", "key"),
    [
        (StatementKind.PROVENANCE, SLSA, KeyName.ATTESTATION),
        (StatementKind.PROVENANCE, "https://in-toto.io/attestation/test-result/v0.1", KeyName.ATTESTATION),
        (StatementKind.MODEL_SIGNING, MODEL_SIGNING, KeyName.MODEL_SIGNING),
    ],
)
def test_a_statement_is_signed_under_the_key_of_its_kind(
    signer: LocalSigner, kind: StatementKind, predicate: str, key: KeyName
) -> None:
    raw = signer.sign_statement(kind, statement(predicate))
    envelope = Envelope.from_dict(json.loads(raw))
    assert (envelope.payload, envelope.payload_type) == (statement(predicate), "application/vnd.in-toto+json")
    envelope.verify([signer.public_key(key)], 1)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (StatementKind.PROVENANCE, statement(MODEL_SIGNING)),
        (StatementKind.MODEL_SIGNING, statement(SLSA)),
        (StatementKind.PROVENANCE, statement(SLSA, subject=[])),
        (StatementKind.PROVENANCE, statement(SLSA, _type="https://in-toto.io/Statement/v0.1")),
        (StatementKind.PROVENANCE, b"{}"),
        (StatementKind.PROVENANCE, b"7"),
        (StatementKind.PROVENANCE, b"\xff"),
        (StatementKind.PROVENANCE, b"[" * 100_000),
    ],
    ids=["other kind", "other kind back", "no subject", "old type", "no fields", "number", "no text", "deep"],
)
def test_what_is_no_statement_of_its_kind_is_refused(signer: LocalSigner, kind: StatementKind, content: bytes) -> None:
    with pytest.raises(SignerRefused) as found:
        signer.sign_statement(kind, content)
    assert found.value.code == SignerCode.CONTENT
    assert signer.journal_head() == "0" * 64


def test_heads_of_the_audit_log_are_kept_in_order(signer: LocalSigner) -> None:
    signer.anchor_audit(3, "a" * 64)
    signer.anchor_audit(7, "b" * 64)
    assert signer.audit_anchors() == [(3, "a" * 64), (7, "b" * 64)]
    with pytest.raises(SignerRefused) as found:
        signer.anchor_audit(5, "c" * 64)
    assert found.value.code == SignerCode.ROLLBACK
    for seq, digest in ((0, "a" * 64), (9, "A" * 64), (9, "")):
        with pytest.raises(SignerRefused) as found:
            signer.anchor_audit(seq, digest)
        assert found.value.code == SignerCode.CONTENT


def test_keys_under_a_passphrase_open_with_it_and_with_no_other(tmp_path: Path) -> None:
    folder, tuf = tmp_path / "encrypted", tmp_path / "tuf"
    key = open_local_signer(folder, tuf, "correct horse battery").public_key(KeyName.DIRECTOR)
    assert open_local_signer(folder, tuf, "correct horse battery").public_key(KeyName.DIRECTOR) == key
    with pytest.raises(KeyStoreError, match="does not open with this passphrase"):
        open_local_signer(folder, tuf, "wrong horse battery").open_keys()


def test_the_folder_of_the_signer_is_for_its_account_alone(signer: LocalSigner, tmp_path: Path) -> None:
    signer.open_keys()
    assert (tmp_path / "signer").stat().st_mode & 0o777 == 0o700
    for key in (tmp_path / "signer" / "keys").glob("*.pem"):
        assert key.stat().st_mode & 0o777 == 0o600
