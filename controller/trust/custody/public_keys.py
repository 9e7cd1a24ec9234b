"""Public keys as files that people hand to each other: what `edgefleet key generate` writes beside a private key.

    {"keyid": hex, "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": hex}, "x-edgefleet-name": "alice"}

The form is that of TUF, so that a key of a key service keeps the scheme it signs with. A PEM file
(SubjectPublicKeyInfo) is read as well.
"""

import json
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Key, SSlibKey

from controller.trust.durable_files import write_durably
from controller.trust.errors import KeyStoreError

NAME_FIELD = "x-edgefleet-name"
"""Field of a public key that says whose it is; part of every document that names the key, and so public."""
BYTES_MAX = 16 * 1024


def read_public_key(path: Path, name: str | None = None) -> Key:
    """Return the key in a file, with the holder's name: the given one, that in the file, or the file's own.

    KeyStoreError for anything that is no public key, a private one above all.
    """
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX)
    except OSError as error:
        raise KeyStoreError(f"the public key {path} cannot be read: {error.strerror}") from error
    if b"PRIVATE KEY" in content:
        raise KeyStoreError(f"{path} is a private key; hand over {path.name}.pub, and never this file")
    key = _from_pem(content, path) if content.startswith(b"-----BEGIN") else _from_json(content, path)
    holder = name or key.unrecognized_fields.get(NAME_FIELD) or path.name.removesuffix(".pub")
    key.unrecognized_fields[NAME_FIELD] = str(holder)
    return key


def write_public_key(path: Path, key: Key, name: str | None = None) -> None:
    """Write a public key for `read_public_key`."""
    content = {"keyid": key.keyid, **key.to_dict()}
    if name:
        content[NAME_FIELD] = name
    write_durably(path, json.dumps(content, indent=1).encode() + b"\n")


def _from_json(content: bytes, path: Path) -> Key:
    try:
        fields = json.loads(content)
        return Key.from_dict(fields.pop("keyid"), fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KeyStoreError(f"{path} is no public key: {error!r}; `edgefleet key generate` writes NAME.pub") from error


def _from_pem(content: bytes, path: Path) -> Key:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(content))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyStoreError(f"{path} is no public key in PEM: {error}") from error
