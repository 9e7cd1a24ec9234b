"""Telling keys apart by what they are, and not by how they are written.

A threshold counts keys. python-tuf and securesystemslib count key *ids*, and a key may be written under any number
of ids: hexadecimal in capitals, PEM with other line ends, another scheme. Whoever holds one private key would then
satisfy a threshold of two.
"""

import json
from collections.abc import Iterable, Mapping

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer import Key
from tuf.api.metadata import Role


def key_material(key: Key) -> str:
    """Return the public key itself, the same for every way to write it; what cannot be read, as it is written."""
    public = key.keyval.get("public")
    try:
        if isinstance(public, str) and "-----BEGIN" in public:
            loaded = load_pem_public_key(public.strip().encode())
            return loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex()
        if isinstance(public, str):
            return bytes.fromhex(public).hex()
    except (ValueError, UnsupportedAlgorithm):
        pass
    return json.dumps(key.keyval, sort_keys=True, default=str)


def counts_a_key_twice(role: Role, keys: Mapping[str, Key]) -> bool:
    """Tell whether two of a role's key ids stand for one key."""
    held = [key_material(keys[keyid]) for keyid in role.keyids if keyid in keys]
    return len(set(held)) != len(held)


def all_material(keys: Iterable[Key]) -> frozenset[str]:
    """Return the public keys of a document."""
    return frozenset(key_material(key) for key in keys)
