"""The keys that sealed models are encrypted with: all come from one master secret, which never leaves the signer.

A content key is HKDF-SHA256 of the master under the key's name, so nothing has to be stored for a sealed variant, and
a variant that is published once more after a crash is sealed with the same key. Who loses the master (`content-master`
in the keys' folder) can wrap no key to what was sealed before: back it up with the other keys.
"""

import base64
import binascii
import re
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from controller.trust.custody.keys import KEYS_LOCK, give_to_owner_of
from controller.trust.durable_files import exclusive, write_durably
from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from controller.trust.signer.interface import KeyWish
from device_agent.protocol.fields import SHA256_HEX
from device_agent.protocol.manifest import CONTENT_KEY_ID
from device_agent.protocol.sealing import CONTENT_KEY_BYTES, content_key_info, wrap_content_key

MASTER_FILE = "content-master"
_INFO = b"edgefleet/content-key/v1|"
_DEVICE = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ContentKeys:
    """Content keys of one signer. Safe to share between threads, and beside others on the same folder."""

    def __init__(self, directory: Path) -> None:
        """Name the folder of the keys; the master is made when it is first needed."""
        self._directory = directory

    def key(self, key_id: str) -> bytes:
        """Return the content key of this name. SignerRefused for what is no name, KeyStoreError for a bad file."""
        if not CONTENT_KEY_ID.fullmatch(key_id):
            raise SignerRefused(f"{key_id[:80]!r} names no content key", code=SignerCode.CONTENT)
        derivation = HKDF(algorithm=hashes.SHA256(), length=CONTENT_KEY_BYTES, salt=None, info=_INFO + key_id.encode())
        return derivation.derive(self._master())

    def wrap(self, wishes: Iterable[KeyWish]) -> list[str]:
        """Return each key wrapped for its device, in base64; an empty text where nothing can be wrapped to its key.

        A machine may enrol with a public key of small order. That is its own loss, and no reason to refuse the others.
        """
        return [self._wrapped(wish) for wish in wishes]

    def _wrapped(self, wish: KeyWish) -> str:
        if not SHA256_HEX.fullmatch(wish.manifest_sha256) or not _DEVICE.fullmatch(wish.device):
            raise SignerRefused("a key is wrapped for a device and a manifest", code=SignerCode.CONTENT)
        key, info = self.key(wish.key_id), content_key_info(wish.device, wish.manifest_sha256)
        try:
            public = X25519PublicKey.from_public_bytes(base64.b64decode(wish.public_key, validate=True))
            return wrap_content_key(key, public, info)
        except (ValueError, binascii.Error):
            return ""

    def _master(self) -> bytes:
        path = self._directory / MASTER_FILE
        if not path.exists():
            with exclusive(self._directory, KEYS_LOCK):
                self._directory.chmod(0o700)
                if not path.exists():
                    write_durably(path, secrets.token_bytes(CONTENT_KEY_BYTES), mode=0o600)
                give_to_owner_of(self._directory, path)
                give_to_owner_of(self._directory, self._directory / KEYS_LOCK)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyStoreError(f"others may open {path} (mode {mode:04o}); set it to 0600")
        master = path.read_bytes()
        if len(master) != CONTENT_KEY_BYTES:
            raise KeyStoreError(f"{path} has {len(master)} bytes; it needs {CONTENT_KEY_BYTES}")
        return master
