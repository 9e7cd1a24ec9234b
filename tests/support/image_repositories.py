"""Image repositories for tests: offline keys in files, the real signer, and writers that crash."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key, Signature
from tuf.api.metadata import DelegatedRole, Metadata, Root, Targets

from controller.trust.custody.keys import ONLINE, KeyName, KeyStore
from controller.trust.durable_files import write_durably
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.image_roles import new_targets, release_paths, release_role
from controller.trust.signer.interface import OnlineSigner
from controller.trust.signer.verbs import LocalSigner, open_local_signer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SIGNERS_CLOCK = NOW + timedelta(days=3650)
"""Later than every test's moment: the signer refuses documents that last too long from its own now on."""
YEAR = timedelta(days=365)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as `write_durably` does, but let the disk take its time: the tests' power failures are not real."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.replace(path)


class Crash(Exception):
    """The power goes."""


@dataclass
class CrashingWriter:
    """Writes until `writes_left` is used up; the write after that leaves half a file and crashes."""

    writes_left: int

    def __call__(self, path: Path, content: bytes) -> None:
        """Write one file, or crash."""
        if self.writes_left == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.new").write_bytes(content[: len(content) // 2])
            raise Crash(path.name)
        self.writes_left -= 1
        write_atomically(path, content)


@dataclass
class CountingWriter:
    """Writes and counts."""

    writes: int = 0

    def __call__(self, path: Path, content: bytes) -> None:
        """Write one file."""
        self.writes += 1
        write_atomically(path, content)


class OfflineKeys:
    """Keys that people hold, by a name that a test gives them: Ed25519 in files, made when first asked for."""

    def __init__(self, directory: Path) -> None:
        """Name the directory."""
        self._directory = directory

    def signer(self, name: str) -> CryptoSigner:
        """Return the signer of this name."""
        path = self._directory / f"{name}.pem"
        if not path.exists():
            write_durably(path, CryptoSigner.generate_ed25519().private_bytes, mode=0o600)
        return CryptoSigner(load_pem_private_key(path.read_bytes(), password=None))

    def key(self, name: str) -> Key:
        """Return the public key of this name."""
        return self.signer(name).public_key

    def sign(self, signed: Root | Targets, names: Sequence[str]) -> bytes:
        """Return the document with the signatures of these keys."""
        document = Metadata[Any](signed)
        for name in names:
            document.sign(self.signer(name), append=True)
        return document.to_bytes()

    def signature(self, raw: bytes, name: str) -> Signature:
        """Return a key's signature over a document, as somebody makes it on another machine."""
        return Metadata[Any].from_bytes(raw).sign(self.signer(name))


@dataclass(frozen=True)
class Roles:
    """Who is to hold what, by the names of OfflineKeys."""

    root: tuple[str, ...] = ("root-1", "root-2", "root-3")
    root_threshold: int = 2
    targets: tuple[str, ...] = ("targets-1",)
    releases: tuple[tuple[str, tuple[str, ...], int], ...] = (("digits", ("release-1", "release-2", "release-3"), 2),)
    """Model, key names, threshold."""


@dataclass(frozen=True)
class Place:
    """Where a repository and its keys are; each `repository()` is a process that starts anew."""

    path: Path

    @property
    def directory(self) -> Path:
        return self.path / "repository"

    @property
    def metadata(self) -> Path:
        return self.directory / "metadata"

    @property
    def offline(self) -> OfflineKeys:
        return OfflineKeys(self.path / "offline")

    @property
    def online_keys(self) -> KeyStore:
        """The signer's keys, to prepare or promote successors, or to play a thief."""
        return KeyStore(self.path / "signer" / "keys", ONLINE)

    def signer(self) -> LocalSigner:
        """Return the signer as a newly started process opens it."""
        return open_local_signer(self.path / "signer", self.directory, clock=lambda: SIGNERS_CLOCK)

    def repository(self) -> ImageRepository:
        """Return the repository as a newly started controller opens it."""
        return ImageRepository(self.directory, self.signer(), write_atomically)

    def crashing(self, after_writes: int) -> ImageRepository:
        """Return the repository in a controller that dies after so many files."""
        return ImageRepository(self.directory, self.signer(), CrashingWriter(after_writes))

    def counting(self) -> tuple[ImageRepository, CountingWriter]:
        """Return the repository and what counts its writes."""
        writer = CountingWriter()
        return ImageRepository(self.directory, self.signer(), writer), writer

    def copy_to(self, path: Path) -> "Place":
        """Return a copy that a test may change."""
        shutil.copytree(self.path, path)
        return Place(path)

    def install(self, now: datetime = NOW, roles: Roles | None = None) -> None:
        """Publish an empty repository, as a first ceremony does."""
        roles = roles or Roles()
        root = root_document(self.offline, self.signer(), now, roles)
        self.repository().install(root, targets_document(self.offline, self.signer(), now, roles), now)

    def release(
        self, manifests: Sequence[bytes], now: datetime, names: Sequence[str] = ("release-1", "release-2")
    ) -> bytes:
        """Release manifests of `digits`, signed by these keys; return the document."""
        repository = self.repository()
        document = repository.draft_release("digits", manifests, None, None, (), now)
        for name in names:
            document = repository.add_signature(document, self.offline.signature(document, name))
        repository.publish_release(document, manifests, now)
        return document


def root_document(
    offline: OfflineKeys,
    signer: OnlineSigner,
    now: datetime,
    roles: Roles | None = None,
    version: int = 1,
    signed_by: Sequence[str] | None = None,
    online: Mapping[str, Sequence[Key]] | None = None,
) -> bytes:
    """Return an image root that names the signer's keys, or others given as `online`, signed by its root keys."""
    roles = roles or Roles()
    root = Root(version=version, expires=now + YEAR, consistent_snapshot=True)
    for name in roles.root:
        root.add_key(offline.key(name), "root")
    for name in roles.targets:
        root.add_key(offline.key(name), "targets")
    named = {
        "snapshot": [signer.public_key(KeyName.IMAGE_SNAPSHOT)],
        "timestamp": [signer.public_key(KeyName.IMAGE_TIMESTAMP)],
    } | dict(online or {})
    for role, keys in named.items():
        for key in keys:
            root.add_key(key, role)
    root.roles["root"].threshold = roles.root_threshold
    return offline.sign(root, roles.root[: roles.root_threshold] if signed_by is None else signed_by)


def targets_document(
    offline: OfflineKeys,
    signer: OnlineSigner,
    now: datetime,
    roles: Roles | None = None,
    version: int = 1,
    signed_by: Sequence[str] | None = None,
    dev: Key | None = None,
) -> bytes:
    """Return top-level targets that delegate `dev` to the signer's key, or another, and the releases."""
    roles = roles or Roles()
    targets = new_targets(lambda name: dev or signer.public_key(name))
    targets.version, targets.expires = version, now + YEAR
    delegations = targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    for model, names, threshold in roles.releases:
        role = release_role(model)
        delegations.roles[role] = DelegatedRole(role, [], threshold, terminating=True, paths=[release_paths(model)])
        for name in names:
            targets.add_key(offline.key(name), role)
    return offline.sign(targets, roles.targets if signed_by is None else signed_by)
