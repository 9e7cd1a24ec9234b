"""The image repository: what a model version is. One TUF repository of static files.

    metadata/  1.root.json  V.targets.json  V.dev.json  V.bin-XX.json  V.snapshot.json  timestamp.json
    targets/   dev/MODEL/VERSION/VARIANT/SHA256.manifest.json

The published files are the truth, and none of them is believed unsigned: what is on the disk is verified from
the root before anything is signed on top of it, so that an altered file never gets a valid signature.

Files are written in the order targets, roles, snapshot, timestamp. A number is never used for two contents and
only timestamp.json is ever replaced, so its replacement is the commit: a crash before it leaves files that
nobody names, and the same call, made again, completes the work.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from controller.trust.durable_files import Write, exclusive, write_durably
from controller.trust.errors import SignedFilesError, SigningKeyError, TargetConflictError
from controller.trust.image_roles import (
    BIN_ROLES,
    HASHED_ROLES,
    bin_of,
    is_due,
    manifest_target,
    new_dev,
    new_root,
    new_targets,
    next_version,
    policy_of,
    whole_seconds,
)
from controller.trust.keys import KeyName, SignerOf
from controller.trust.root_chain import RootChain
from device_agent.protocol.fields import format_utc

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass
class _Published:
    """The verified state that timestamp.json names, except for the bins, which are read when needed."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    dev: Targets

    def delegator(self, role: str) -> Root | Targets:
        if role in self.root.roles:
            return self.root
        return self.targets if role == "dev" else self.dev


class ImageRepository:
    """The image repository below one directory. Each call takes the directory's lock for its whole length."""

    def __init__(self, directory: Path, signer_of: SignerOf, write: Write = write_durably) -> None:
        """Name the directory and where signers come from; nothing is read or written yet."""
        self._directory = directory
        self._metadata = directory / "metadata"
        self._signer_of = signer_of
        self._write = write
        self.roots = RootChain(self._metadata, write)

    def initialise(self, now: datetime) -> None:
        """Publish an empty repository; one that exists stays as it is."""
        now = whole_seconds(now)
        with exclusive(self._directory):
            if self._timestamp_path.exists():
                return
            self.roots.create(new_root(self._signer_of), self._signer_of(KeyName.IMAGE_ROOT), now)
            targets, dev = new_targets(self._signer_of), new_dev(self._signer_of)
            empty = _Published(self.roots.newest(), Timestamp(), Snapshot(), targets, dev)
            bins = {role: Targets() for role in BIN_ROLES}
            self._commit(empty, {"targets": targets, "dev": dev, **bins}, now)

    def publish(self, manifests: Iterable[bytes], now: datetime) -> tuple[str, ...]:
        """Sign manifests; return the target paths that were not published before.

        Only the bins concerned, the snapshot and the timestamp are signed. Publishing again what is published
        changes nothing. Raises ProtocolError for bytes that are no manifest, TargetConflictError for a manifest
        that is published with other content, SignedFilesError or SigningKeyError when the repository or its keys
        are not in order; in each case nothing is published.
        """
        now = whole_seconds(now)
        contents = [(manifest_target(content), content) for content in manifests]
        with exclusive(self._directory):
            published = self._read()
            bins: dict[str, Targets] = {}
            added: list[str] = []
            for target, content in contents:
                role = bin_of(target.path)
                if role not in bins:
                    bins[role] = self._read_role(role, published.snapshot, published.dev)
                if self._add(target, content, bins[role]):
                    added.append(target.path)
            changed = {role: bins[role] for role in map(bin_of, added)}
            if changed:
                self._commit(published, changed, now)
        return tuple(added)

    def refresh(self, now: datetime) -> tuple[str, ...]:
        """Renew what expires soon; return the roles that were signed, nothing within an hour of the last time."""
        now = whole_seconds(now)
        with exclusive(self._directory):
            published = self._read()
            if not is_due("timestamp", published.timestamp, now):
                return ()
            renewed = ["root"] if self.roots.renew(self._signer_of(KeyName.IMAGE_ROOT), now) else []
            roles = {"targets": published.targets, "dev": published.dev}
            roles |= {role: self._read_role(role, published.snapshot, published.dev) for role in BIN_ROLES}
            due = {role: signed for role, signed in roles.items() if is_due(role, signed, now)}
            if due or is_due("snapshot", published.snapshot, now):
                self._commit(published, due, now)
                return (*renewed, *due, "snapshot", "timestamp")
            self._commit_timestamp(published, published.timestamp.snapshot_meta, now)
            return (*renewed, "timestamp")

    def _add(self, target: TargetFile, content: bytes, signed_bin: Targets) -> bool:
        known = signed_bin.targets.get(target.path)
        if known and known.hashes != target.hashes:
            raise TargetConflictError(f"{target.path} is published with sha256 {known.hashes['sha256']}")
        path = self._directory / "targets" / target.get_prefixed_paths()[0]
        if not path.exists():
            self._write(path, content)
        signed_bin.targets[target.path] = target
        return known is None

    def _commit(self, published: _Published, changed: Mapping[str, Targets], now: datetime) -> None:
        snapshot = published.snapshot
        for role, signed in changed.items():
            raw = self._sign_numbered(role, signed, published, now)
            snapshot.meta[f"{role}.json"] = (
                MetaFile.from_data(signed.version, raw, ["sha256"])
                if role in HASHED_ROLES
                else MetaFile(signed.version)
            )
        raw = self._sign_numbered("snapshot", snapshot, published, now)
        self._commit_timestamp(published, MetaFile.from_data(snapshot.version, raw, ["sha256"]), now)

    def _commit_timestamp(self, published: _Published, snapshot: MetaFile, now: datetime) -> None:
        timestamp = published.timestamp
        timestamp.version = next_version(timestamp.version, now)
        timestamp.snapshot_meta = snapshot
        timestamp.unrecognized_fields["x-issued"] = format_utc(now)
        self._write(self._timestamp_path, self._sign("timestamp", timestamp, published, now))

    def _sign_numbered(self, role: str, signed: S, published: _Published, now: datetime) -> bytes:
        signed.version = next_version(signed.version, now)
        while self._path(role, signed.version).exists():
            signed.version += 1
        raw = self._sign(role, signed, published, now)
        self._write(self._path(role, signed.version), raw)
        return raw

    def _sign(self, role: str, signed: S, published: _Published, now: datetime) -> bytes:
        policy = policy_of(role)
        signer = self._signer_of(policy.key)
        if signer.public_key.keyid not in published.delegator(role).get_delegated_role(role).keyids:
            raise SigningKeyError(f"{policy.key} in the store is not the key published for {role}")
        signed.expires = now + policy.lifetime
        document = Metadata(signed)
        document.sign(signer)
        return document.to_bytes()

    def _read(self) -> _Published:
        root = self.roots.newest()
        timestamp = self._verified("timestamp", self._bytes(self._timestamp_path), Timestamp, root)
        raw = self._bytes(self._path("snapshot", timestamp.snapshot_meta.version))
        _check(timestamp.snapshot_meta, raw, "snapshot")
        snapshot = self._verified("snapshot", raw, Snapshot, root)
        targets = self._read_role("targets", snapshot, root)
        return _Published(root, timestamp, snapshot, targets, self._read_role("dev", snapshot, targets))

    def _read_role(self, role: str, snapshot: Snapshot, delegator: Root | Targets) -> Targets:
        meta = snapshot.meta[f"{role}.json"]
        raw = self._bytes(self._path(role, meta.version))
        _check(meta, raw, role)
        signed = self._verified(role, raw, Targets, delegator)
        if signed.version != meta.version:
            raise SignedFilesError(f"{role} carries version {signed.version}; the snapshot names {meta.version}")
        return signed

    def _verified(self, role: str, raw: bytes, kind: type[S], delegator: Root | Targets) -> S:
        try:
            document = Metadata[S].from_bytes(raw)
            delegator.verify_delegate(role, document.signed_bytes, document.signatures)
        except (RepositoryError, DeserializationError) as error:
            raise SignedFilesError(f"{role} in {self._metadata} cannot be trusted: {error}") from error
        if not isinstance(document.signed, kind):
            raise SignedFilesError(f"{role} in {self._metadata} holds {document.signed.type}")
        return document.signed

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise SignedFilesError(f"{path} is missing") from error

    def _path(self, role: str, version: int) -> Path:
        return self._metadata / f"{version}.{role}.json"

    @property
    def _timestamp_path(self) -> Path:
        return self._metadata / "timestamp.json"


def _check(meta: MetaFile, raw: bytes, role: str) -> None:
    try:
        meta.verify_length_and_hashes(raw)
    except RepositoryError as error:
        raise SignedFilesError(f"{role} is not the file that was signed for: {error}") from error
