"""The controller's private keys: Ed25519, one file each, made when they are first asked for.

Every role has a key of its own, and the image repository shares none with the director: a device installs only
what both sign, which means nothing if one key can sign for both (Uptane standard, "Repositories").
"""

import secrets
import stat
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer

from controller.trust.durable_files import exclusive, write_durably
from controller.trust.errors import KeyStoreError

SESSION_SECRET_BYTES = 32


class KeyName(StrEnum):
    """What a key signs."""

    IMAGE_ROOT = "image-root"
    IMAGE_TARGETS = "image-targets"
    IMAGE_DEV = "image-dev"
    IMAGE_BINS = "image-bins"
    IMAGE_SNAPSHOT = "image-snapshot"
    IMAGE_TIMESTAMP = "image-timestamp"
    DIRECTOR_ROOT = "director-root"
    DIRECTOR = "director"


SignerOf = Callable[[KeyName], Signer]
"""Where the signing parts get their signers from: `KeyStore.signer`."""


class KeyStore:
    """Keys as PKCS#8 PEM files below one directory, which only the controller's user may read.

    Several processes may open the store at the same time, also at the very first start: each key is made once.
    A key that was lost is made anew; the signed files then name another one, and signing ends in a
    SigningKeyError before anything is published.
    """

    def __init__(self, directory: Path) -> None:
        """Open the store; nothing is read or made yet."""
        self._directory = directory
        self._signers: dict[KeyName, Signer] = {}

    def signer(self, name: KeyName) -> Signer:
        """Return the signer of this name. Raises KeyStoreError when its file cannot be used."""
        if name not in self._signers:
            signer = self._load(name)
            self._refuse_copies(name, signer)
            self._signers[name] = signer
        return self._signers[name]

    def session_secret(self) -> bytes:
        """Return the random secret that session tokens are sealed with; all API processes share it."""
        secret = self._read_or_make("session-secret", lambda: secrets.token_bytes(SESSION_SECRET_BYTES))
        if len(secret) < SESSION_SECRET_BYTES:
            raise KeyStoreError(f"session-secret has {len(secret)} bytes; it needs {SESSION_SECRET_BYTES}")
        return secret

    def _load(self, name: KeyName) -> Signer:
        pem = self._read_or_make(f"{name}.pem", lambda: CryptoSigner.generate_ed25519().private_bytes)
        try:
            return CryptoSigner(load_pem_private_key(pem, password=None))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyStoreError(f"{name}.pem is no private key in PKCS#8 PEM: {error}") from error

    def _refuse_copies(self, name: KeyName, signer: Signer) -> None:
        for other in KeyName:
            if other is name or not (self._directory / f"{other}.pem").exists():
                continue
            if self._load(other).public_key.keyval == signer.public_key.keyval:
                raise KeyStoreError(f"{name}.pem and {other}.pem hold one key; every role needs its own")

    def _read_or_make(self, file_name: str, make: Callable[[], bytes]) -> bytes:
        path = self._directory / file_name
        if not path.exists():
            with exclusive(self._directory):
                self._directory.chmod(0o700)
                if not path.exists():
                    write_durably(path, make(), mode=0o600)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyStoreError(f"others may open {path} (mode {mode:04o}); set it to 0600")
        return path.read_bytes()
