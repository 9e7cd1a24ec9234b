"""The sealed form of an artifact, and the key to it: what travels says nothing to whoever does not hold the key.

An artifact is encrypted once, in chunks (`sealed_form`), with AES-256-GCM in the STREAM construction (Hoang,
Reyhanitabar, Rogaway, Vizár 2015): the nonce of a chunk is a prefix of 7 bytes, its index in 4, and one that tells
whether it is the last, so that chunks can be neither moved, dropped nor cut off. Key and prefix come by HKDF-SHA256
from the content key and the sha256 of the plaintext: equal plaintexts give equal bytes, and no key ever meets two
plaintexts.

The content key travels in the assignment, wrapped for one device by HPKE (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM).
Whoever knows a device's public key can wrap, so the wrap alone proves nothing: the assignment's signature does.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.sealed_form import CHUNK, MAGIC, TAG

CONTENT_KEY_BYTES = 32
_PREFIX = 7
_INFO = b"edgefleet/sealed-artifact/v1"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def seal(pieces: Iterable[bytes], *, key: bytes, sha256: str) -> Iterator[bytes]:
    """Yield the sealed form of a plaintext that comes in pieces of any size; holds two chunks at most.

    `key` is the content key and `sha256` the plaintext's digest in hex. HASH_MISMATCH, after the last piece, where the
    plaintext has another one: what was yielded must then go nowhere.
    """
    cipher, prefix = _cipher(key, sha256)
    digest = hashlib.sha256()
    yield MAGIC
    for index, (chunk, last) in enumerate(_chunks(pieces, CHUNK)):
        digest.update(chunk)
        yield cipher.encrypt(_nonce(prefix, index, last=last), chunk, MAGIC)
    if digest.hexdigest() != sha256:
        raise ProtocolError(Code.HASH_MISMATCH, f"what was to be sealed is not {sha256}", role="artifact")


def unseal(pieces: Iterable[bytes], *, key: bytes, sha256: str) -> Iterator[bytes]:
    """Yield the plaintext of a sealed form, chunk by chunk, each as soon as it is known to be what was sealed there.

    `key` and `sha256` are those of `seal`. DECRYPT where anything is missing, moved, changed or added, or the key is
    another one. Holds two chunks at most.
    """
    cipher, prefix = _cipher(key, sha256)
    given = iter(pieces)
    head = b""
    while len(head) < len(MAGIC) and (piece := next(given, None)) is not None:
        head += piece
    if not head.startswith(MAGIC):
        raise _undecryptable("it does not begin like a sealed artifact")
    for index, (chunk, last) in enumerate(_chunks(_after(head[len(MAGIC) :], given), CHUNK + TAG)):
        try:
            yield cipher.decrypt(_nonce(prefix, index, last=last), chunk, MAGIC)
        except InvalidTag as error:
            raise _undecryptable(f"chunk {index} is not what was sealed there") from error


def content_key_info(device: str, manifest_sha256: str) -> bytes:
    """Return what a wrapped key is bound to: one device and one manifest (its sha256 in hex)."""
    return f"edgefleet/content-key/v1|{device}|{manifest_sha256}".encode()


def wrap_content_key(key: bytes, device_public: X25519PublicKey, info: bytes) -> str:
    """Return the content key for one device, in base64 (80 bytes); every call gives another text.

    `info` is `content_key_info`. ValueError for a public key of small order, to which nothing can be wrapped.
    """
    return base64.b64encode(_SUITE.encrypt(key, device_public, info=info)).decode()


def unwrap_content_key(wrapped: str | None, device_private: X25519PrivateKey, info: bytes) -> bytes:
    """Return the content key; UNWRAP where there is none, or it was wrapped for another device or another manifest."""
    if not wrapped:
        raise _unwrappable("the model is sealed and the assignment carries no key to it")
    try:
        key = _SUITE.decrypt(base64.b64decode(wrapped, validate=True), device_private, info=info)
    except (InvalidTag, ValueError, binascii.Error) as error:
        raise _unwrappable("the key to the model is not for this device and this manifest") from error
    if len(key) != CONTENT_KEY_BYTES:
        raise _unwrappable(f"the key to the model has {len(key)} bytes; expected {CONTENT_KEY_BYTES}")
    return key


def _cipher(key: bytes, sha256: str) -> tuple[AESGCM, bytes]:
    derivation = HKDF(algorithm=hashes.SHA256(), length=32 + _PREFIX, salt=bytes.fromhex(sha256), info=_INFO)
    derived = derivation.derive(key)
    return AESGCM(derived[:32]), derived[32:]


def _nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + bytes([last])


def _chunks(pieces: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield chunks of `size` bytes, each with whether it is the last; there is always one, if an empty one."""
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) > size:
            yield bytes(waiting[:size]), False
            del waiting[:size]
    yield bytes(waiting), True


def _after(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def _undecryptable(why: str) -> ProtocolError:
    return ProtocolError(Code.DECRYPT, f"the sealed form cannot be opened: {why}", role="artifact")


def _unwrappable(why: str) -> ProtocolError:
    return ProtocolError(Code.UNWRAP, why, role="assignment")
