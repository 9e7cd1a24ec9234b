"""OpenSSF Model Signing: a bundle that `model_signing verify key` accepts beside a model's files, without our code.

It is an in-toto statement of each file's sha256, signed with a P-256 key in DSSE, inside a sigstore bundle v0.3
without a transparency log. It says which files a model consists of and nothing of their version or age, so it stands
beside the image repository and not in its place. Format: OpenSSF Model Signing v1.0, method `files`, `sha256`.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import Key

from controller.trust.lineage.statements import PAYLOAD_TYPE, STATEMENT, Files
from device_agent.protocol.dsse import pre_authentication_encoding

PREDICATE = "https://model_signing/signature/v1.0"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def model_statement(name: str, files: Files) -> bytes:
    """Return the statement to be signed: `files` has the sha256 of each by its name, `name` is for people."""
    # The format orders files by the parts of their paths, and digests their digests in that order.
    ordered = sorted(files.items(), key=lambda entry: entry[0].split("/"))
    root = hashlib.sha256(b"".join(bytes.fromhex(sha256) for _, sha256 in ordered)).hexdigest()
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": file, "algorithm": "sha256", "digest": sha256} for file, sha256 in ordered],
        },
    }
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def model_bundle(envelope: bytes, key: Key) -> dict[str, Any]:
    """Return the bundle (`model.sig`) of a signed statement; `key` is the P-256 key that signed it."""
    signed = json.loads(envelope)
    hint = hashlib.sha256(public_key_pem(key)).hexdigest()
    return {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": signed["payload"],
            "payloadType": signed["payloadType"],
            # The format knows keys by the hint alone.
            "signatures": [{"sig": signed["signatures"][0]["sig"], "keyid": ""}],
        },
    }


def public_key_pem(key: Key) -> bytes:
    """Return the key in the one PEM form that bundles name by its sha256."""
    return _load(str(key.keyval["public"]).encode()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def why_not_signed(bundle: Mapping[str, Any], key_pem: bytes, files: Files) -> str | None:
    """Return why the bundle does not prove that a model consists of exactly these files; None where it does.

    For who has no `model_signing` at hand; `key_pem` is a key that the caller trusts.
    """
    try:
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        if envelope["payloadType"] != PAYLOAD_TYPE:
            return f"the payload type is {envelope['payloadType']!r}; expected {PAYLOAD_TYPE}"
        _load(key_pem).verify(signature, pre_authentication_encoding(PAYLOAD_TYPE, payload), ECDSA(SHA256()))
        predicate = json.loads(payload)["predicate"]
        signed = {entry["name"]: entry["digest"] for entry in predicate["resources"]}
    except InvalidSignature:
        return "it is not signed with this key"
    except (KeyError, IndexError, TypeError, ValueError, RecursionError, UnsupportedAlgorithm) as error:
        return f"it is no bundle, or the key is none of P-256: {error!r}"
    different = sorted(name for name in signed.keys() | files.keys() if signed.get(name) != files.get(name))
    return f"it says something else about {', '.join(different)}" if different else None


def _load(pem: bytes) -> EllipticCurvePublicKey:
    key = load_pem_public_key(pem)
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("a model is signed with a key on the curve P-256")  # noqa: TRY004 -- a value from outside
    return key
