"""The controller's private keys: one file each, or one URI, made when they are first asked for.

Every role has a key of its own, and the image repository shares none with the director: a device installs only
what both sign, which means nothing if one key can sign for both (Uptane standard, "Repositories").
"""

import json
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from securesystemslib.signer import Key, Signer

from controller.trust.custody.key_uris import configured_passphrase, file_uri, new_signer, open_signer, private_pem
from controller.trust.durable_files import exclusive, flush_directory, write_durably
from controller.trust.errors import KeyStoreError

SESSION_SECRET_BYTES = 32


class KeyName(StrEnum):
    """What a key signs."""

    IMAGE_ROOT = "image-root"
    IMAGE_TARGETS = "image-targets"
    RELEASE = "release"
    IMAGE_DEV = "image-dev"
    IMAGE_BINS = "image-bins"
    IMAGE_SNAPSHOT = "image-snapshot"
    IMAGE_TIMESTAMP = "image-timestamp"
    DIRECTOR_ROOT = "director-root"
    DIRECTOR = "director"
    DEVICE_CA = "device-ca"
    ATTESTATION = "attestation"
    MODEL_SIGNING = "model-signing"


OFFLINE = frozenset({KeyName.IMAGE_ROOT, KeyName.IMAGE_TARGETS, KeyName.RELEASE, KeyName.DIRECTOR_ROOT})
"""Keys that a controller never holds, unless it is a small installation with a single operator."""
ONLINE = frozenset(KeyName) - OFFLINE
"""Keys of the signer."""
P256 = frozenset({KeyName.DEVICE_CA, KeyName.MODEL_SIGNING})
"""Keys on the curve P-256: device certificates and OpenSSF model signing take no Ed25519. All others are Ed25519."""


SignerOf = Callable[[KeyName], Signer]
"""Where a signing part gets its signers from: `KeyStore.signer`."""

URIS_FILE = "keys.json"
"""{"director": "awskms:..."}: keys that are somewhere else. `NAME.public.json` beside it keeps their public halves."""
KEYS_LOCK = ".keys.lock"
"""A lock of its own: callers may hold the directory's while they ask for a key."""
_Stamp = tuple[int, int, int]


class KeyStore:
    """Keys below one directory that only its owner may read: `NAME.pem`, or a URI in `keys.json`.

    Several processes may open the store at the same time, also at the very first start: each key is made once.
    A key that was lost is made anew; the signed files then name another one, and signing ends in a
    SigningKeyError before anything is published.

    A rotation has two steps: `prepare_next` makes `NAME.next.pem`, which signs as soon as the published files name it,
    and `promote` puts it in the place of the old key, which is gone then. An open store sees both without a restart.
    """

    def __init__(self, directory: Path, names: Iterable[KeyName] = KeyName, passphrase: str | None = None) -> None:
        """Open the store for these names; nothing is read or made yet.

        New files are encrypted when there is a passphrase, given here or configured in the environment.
        """
        self.directory = directory
        self._names = tuple(names)
        self._passphrase = passphrase if passphrase is not None else configured_passphrase()
        self._loaded: dict[str, tuple[_Stamp, Signer]] = {}
        self._lock = threading.RLock()

    def signer(self, name: KeyName) -> Signer:
        """Return the signer of this name, made when there is none. KeyStoreError when it cannot be used."""
        if name not in self._names:
            raise KeyStoreError(f"this store keeps no {name} key; it keeps {', '.join(self._names)}")
        with self._lock:
            signer = self._find(name)
            if signer is None:
                self._make(name)
                signer = self._find(name)
            assert signer is not None
            return signer

    def pending(self, name: KeyName) -> Signer | None:
        """Return the signer that `prepare_next` made and `promote` has not taken yet."""
        with self._lock:
            return self._find(_next(name))

    def prepare_next(self, name: KeyName) -> Key:
        """Make the key that shall follow, unless it is made already; return its public half."""
        self.signer(name)
        with self._lock:
            found = self._find(_next(name))
            if found is None:
                if name in self._uris():
                    raise KeyStoreError(f"{name} is named in {URIS_FILE}; name its successor there as {_next(name)!r}")
                self._make(_next(name))
                found = self._find(_next(name))
            assert found is not None
            return found.public_key

    def promote(self, name: KeyName) -> Key:
        """Put the pending key in the place of the present one, which is lost by that; return its public half.

        Call it when nothing published names the old key any more. KeyStoreError when no key is pending.
        """
        with self._lock:
            if self._find(_next(name)) is None:
                raise KeyStoreError(f"{name} has no pending key; prepare the next one first")
            if _next(name) in self._uris():
                raise KeyStoreError(
                    f"{name} is named in {URIS_FILE}; move the URI of {_next(name)!r} to {name!r} there"
                )
            with exclusive(self.directory, KEYS_LOCK):
                self._path(_next(name)).replace(self._path(name))
                flush_directory(self.directory)
            return self.signer(name).public_key

    def _find(self, entry: str) -> Signer | None:
        """Return the signer of `NAME` or `NAME.next`, read again when its file has changed."""
        uri = self._uris().get(entry)
        source = self.directory / URIS_FILE if uri else self._path(entry)
        stamp = _stamp_of(source)
        if stamp is None:
            return None
        known = self._loaded.get(entry)
        if known and known[0] == stamp:
            return known[1]
        signer = self._open_elsewhere(entry, uri) if uri else open_signer(file_uri(source), self._passphrase)
        self._loaded[entry] = stamp, signer
        try:
            self._refuse_copies(entry, signer)
        except KeyStoreError:
            del self._loaded[entry]
            raise
        return signer

    def _open_elsewhere(self, entry: str, uri: str) -> Signer:
        remembered = self.directory / f"{entry}.public.json"
        if remembered.exists():
            stored = json.loads(remembered.read_bytes())
            return open_signer(uri, self._passphrase, Key.from_dict(stored.pop("keyid"), stored))
        signer = open_signer(uri, self._passphrase)
        public = {"keyid": signer.public_key.keyid, **signer.public_key.to_dict()}
        write_durably(remembered, json.dumps(public, indent=1).encode())
        return signer

    def _refuse_copies(self, entry: str, signer: Signer) -> None:
        for other in (form for name in self._names for form in (name, _next(name))):
            if other == entry or (other not in self._uris() and not self._path(other).exists()):
                continue
            found = self._find(other)
            if found and found.public_key.keyval == signer.public_key.keyval:
                raise KeyStoreError(f"{entry}.pem and {other}.pem hold one key; every role needs its own")

    def _make(self, entry: str) -> None:
        path = self._path(entry)
        with exclusive(self.directory, KEYS_LOCK):
            self.directory.chmod(0o700)
            if not path.exists():
                signer = new_signer(p256=KeyName(entry.removesuffix(_NEXT)) in P256)
                write_durably(path, private_pem(signer, self._passphrase), mode=0o600)
                give_to_owner_of(self.directory, path)
            give_to_owner_of(self.directory, self.directory / KEYS_LOCK)

    def _uris(self) -> dict[str, str]:
        path = self.directory / URIS_FILE
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise KeyStoreError(f"{path} is not JSON: {error}") from error
        known = {form for name in KeyName for form in (name, _next(name))}
        if (
            not isinstance(found, dict)
            or not found.keys() <= known
            or not all(isinstance(u, str) for u in found.values())
        ):
            raise KeyStoreError(f"{path} must map names of keys to URIs; the names are {', '.join(KeyName)}")
        return found

    def _path(self, entry: str) -> Path:
        return self.directory / f"{entry}.pem"


_NEXT = ".next"


def _next(name: str) -> str:
    return f"{name}{_NEXT}"


def _stamp_of(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be read: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def give_to_owner_of(directory: Path, path: Path) -> None:
    """Give a file that root has made in another account's directory to that account."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def session_secret(directory: Path) -> bytes:
    """Return the random secret below `directory` that session tokens are sealed with, made when there is none.

    All API processes share it. KeyStoreError when its file cannot be used.
    """
    path = directory / "session-secret"
    if not path.exists():
        with exclusive(directory, KEYS_LOCK):
            directory.chmod(0o700)
            if not path.exists():
                write_durably(path, secrets.token_bytes(SESSION_SECRET_BYTES), mode=0o600)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise KeyStoreError(f"others may open {path} (mode {mode:04o}); set it to 0600")
    secret = path.read_bytes()
    if len(secret) < SESSION_SECRET_BYTES:
        raise KeyStoreError(f"session-secret has {len(secret)} bytes; it needs {SESSION_SECRET_BYTES}")
    return secret
