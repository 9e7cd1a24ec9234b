import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from controller.trust.lineage.model_signing import model_bundle, model_statement, public_key_pem, why_not_signed
from tests.support.lineages import digest, signed

FILES = {"model.onnx": digest("graph"), "weights.bin": digest("weights"), "golden.npz": digest("golden")}


@pytest.fixture(scope="module")
def key() -> CryptoSigner:
    return CryptoSigner.generate_ecdsa()


@pytest.fixture
def bundle(key: CryptoSigner) -> dict[str, Any]:
    return model_bundle(signed(model_statement("digits-1-small", FILES), key), key.public_key)


def test_a_statement_lists_files_in_order_and_digests_their_digests() -> None:
    statement = json.loads(model_statement("digits-1-small", FILES))
    assert [entry["name"] for entry in statement["predicate"]["resources"]] == [
        "golden.npz",
        "model.onnx",
        "weights.bin",
    ]
    raw = b"".join(bytes.fromhex(FILES[name]) for name in ("golden.npz", "model.onnx", "weights.bin"))
    assert statement["subject"] == [{"name": "digits-1-small", "digest": {"sha256": hashlib.sha256(raw).hexdigest()}}]


def test_folders_are_ordered_by_the_parts_of_their_paths() -> None:
    files = {"a.b/model": digest("1"), "a/model": digest("2")}
    resources = json.loads(model_statement("m", files))["predicate"]["resources"]
    assert [entry["name"] for entry in resources] == ["a/model", "a.b/model"]


def test_a_bundle_proves_exactly_its_files(key: CryptoSigner, bundle: dict[str, Any]) -> None:
    pem = public_key_pem(key.public_key)
    assert why_not_signed(bundle, pem, FILES) is None
    assert bundle["verificationMaterial"]["publicKey"]["hint"] == hashlib.sha256(pem).hexdigest()


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({**FILES, "model.onnx": digest("other")}, "model.onnx"),
        ({**FILES, "extra.txt": digest("extra")}, "extra.txt"),
        ({name: FILES[name] for name in ("model.onnx", "golden.npz")}, "weights.bin"),
    ],
)
def test_a_changed_an_extra_and_a_missing_file_are_named(
    key: CryptoSigner, bundle: dict[str, Any], files: dict[str, str], named: str
) -> None:
    why = why_not_signed(bundle, public_key_pem(key.public_key), files)
    assert why == f"it says something else about {named}"


def test_another_key_proves_nothing(bundle: dict[str, Any]) -> None:
    other = public_key_pem(CryptoSigner.generate_ecdsa().public_key)
    assert why_not_signed(bundle, other, FILES) == "it is not signed with this key"


def test_an_edited_statement_proves_nothing(key: CryptoSigner, bundle: dict[str, Any]) -> None:
    files = {**FILES, "model.onnx": digest("other")}
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(model_statement("digits-1-small", files)).decode()
    assert why_not_signed(bundle, public_key_pem(key.public_key), files) == "it is not signed with this key"


@pytest.mark.parametrize(
    "bundle",
    [{}, {"dsseEnvelope": None}, {"dsseEnvelope": {"payload": "?", "payloadType": "x", "signatures": []}}],
)
def test_what_is_no_bundle_proves_nothing(key: CryptoSigner, bundle: dict[str, Any]) -> None:
    assert "it is no bundle" in str(why_not_signed(bundle, public_key_pem(key.public_key), FILES))


def test_a_bundle_of_another_payload_type_proves_nothing(key: CryptoSigner, bundle: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"
    assert "the payload type is 'text/plain'" in str(why_not_signed(bundle, public_key_pem(key.public_key), FILES))


def test_a_key_of_another_kind_is_no_key_for_models(bundle: dict[str, Any], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert "the key is none of P-256" in str(why_not_signed(bundle, pem, FILES))
