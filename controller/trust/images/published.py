"""What is published in the image repository, read back and verified from the root.

    metadata/  N.root.json  V.targets.json  V.prod-MODEL.json  V.dev.json  V.bin-XX.json  V.snapshot.json
               timestamp.json
    targets/   prod|dev/MODEL/VERSION/VARIANT/SHA256.manifest.json

The published files are the truth, and none of them is believed unsigned: nothing is signed on top of a file, and no
assignment names one, before the whole way from the root to it was checked.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from controller.trust.errors import SignedFilesError, TrustMissing
from controller.trust.images.image_roles import BIN_ROLES, RELEASE_PREFIX, is_hashed, role_of
from controller.trust.images.root_chain import RootChain

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


@dataclass
class Published:
    """The verified state that timestamp.json names; bins and release roles are read when they are needed."""

    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets
    dev: Targets
    outdated: set[str] = field(default_factory=set)
    """Roles that the newest root's predecessor vouches for, and the newest no more: its installation was cut off."""

    def delegator(self, role: str) -> Root | Targets:
        """Return the document that names a role's keys."""
        if role in self.root.roles:
            return self.root
        return self.dev if role in BIN_ROLES else self.targets

    def versions(self) -> dict[str, int]:
        """Return the version of every role, `root` included."""
        listed = {name.removesuffix(".json"): meta.version for name, meta in self.snapshot.meta.items()}
        top = {"root": self.root.version, "timestamp": self.timestamp.version, "snapshot": self.snapshot.version}
        return top | listed


class PublishedFiles:
    """Reads the files of one repository. Files that timestamp.json names are never changed, so no lock is needed."""

    def __init__(self, directory: Path) -> None:
        """Name the directory that holds `metadata/` and `targets/`; nothing is read yet."""
        self.directory = directory
        self.metadata = directory / "metadata"
        self.timestamp_path = self.metadata / "timestamp.json"

    def exist(self) -> bool:
        """Say whether the first publication was completed."""
        return self.timestamp_path.exists()

    def path(self, role: str, version: int) -> Path:
        """Return where a version of a role lies."""
        return self.metadata / f"{version}.{role}.json"

    def read(self, following: Root | None = None) -> Published:
        """Return the published state, under a verified root that is to follow the newest where one is given.

        What only an earlier root vouches for is `outdated`; devices do not accept it. Raises TrustMissing when nothing
        is installed, SignedFilesError when a file is missing, altered or mixed up.
        """
        roots = [*filter(None, [following]), *filter(None, RootChain(self.metadata).newest_two())]
        if not self.exist():
            raise TrustMissing(f"the image repository in {self.directory} was not published yet; finish its ceremony")
        outdated: set[str] = set()

        def top(role: str, raw: bytes, kind: type[S]) -> S:
            for root in roots[:-1]:
                with suppress(_TooFewSignatures):
                    return self._verified(role, raw, kind, root)
                outdated.add(role)
            return self._verified(role, raw, kind, roots[-1])

        timestamp = top("timestamp", self._bytes(self.timestamp_path), Timestamp)
        snapshot = top("snapshot", self._named("snapshot", timestamp.snapshot_meta), Snapshot)
        _check_version("snapshot", snapshot, timestamp.snapshot_meta)
        meta = _meta("targets", snapshot)
        targets = top("targets", self._named("targets", meta), Targets)
        _check_version("targets", targets, meta)
        published = Published(roots[0], timestamp, snapshot, targets, Targets(), outdated)
        published.dev = self.role("dev", published)
        return published

    def role(self, role: str, published: Published) -> Targets:
        """Return a delegated role as the snapshot names it, signed as its delegation asks."""
        meta = _meta(role, published.snapshot)
        signed = self._verified(role, self._named(role, meta), Targets, published.delegator(role))
        _check_version(role, signed, meta)
        return signed

    def raw_release(self, role: str, published: Published) -> bytes | None:
        """Return the exact bytes of a release role that the snapshot names; None where nothing was released yet."""
        meta = published.snapshot.meta.get(f"{role}.json")
        return None if meta is None else self._named(role, meta)

    def is_signed(self, role: str, published: Published) -> bool:
        """Say whether a role still has the signatures that its delegation asks for; keys may have been revoked."""
        try:
            self.role(role, published)
        except _TooFewSignatures:
            return False
        return True

    def target_path(self, target: TargetFile) -> Path:
        """Return where a target's bytes lie."""
        return self.directory / "targets" / target.get_prefixed_paths()[0]

    def _named(self, role: str, meta: MetaFile) -> bytes:
        raw = self._bytes(self.path(role, meta.version))
        if is_hashed(role) and not meta.hashes:
            raise SignedFilesError(f"the snapshot names {role} without its hash")
        try:
            meta.verify_length_and_hashes(raw)
        except RepositoryError as error:
            raise SignedFilesError(f"{role} is not the file that was signed for: {error}") from error
        return raw

    def _verified(self, role: str, raw: bytes, kind: type[S], delegator: Root | Targets) -> S:
        try:
            document = Metadata[S].from_bytes(raw)
            delegator.verify_delegate(role, document.signed_bytes, document.signatures)
        except UnsignedMetadataError as error:
            raise _TooFewSignatures(f"{role} in {self.metadata} cannot be trusted: {error}") from error
        except (RepositoryError, ValueError) as error:
            raise SignedFilesError(f"{role} in {self.metadata} cannot be trusted: {error}") from error
        if not isinstance(document.signed, kind):
            raise SignedFilesError(f"{role} in {self.metadata} holds {document.signed.type}")
        return document.signed

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise SignedFilesError(f"{path} is missing") from error


class PublishedTargets:
    """What is signed under a target path at this moment: what an assignment may name.

    Reads the files again when timestamp.json was replaced, each role once. For one thread at a time.
    """

    def __init__(self, directory: Path) -> None:
        """Name the directory that holds `metadata/`; nothing is read yet."""
        self._files = PublishedFiles(directory)
        self._seen: tuple[int, ...] | None = None
        self._published: Published | None = None
        self._roles: dict[str, Targets | None] = {}

    def lookup(self, path: str) -> tuple[int, str] | None:
        """Return length and sha256 (hexadecimal) of the target that is signed under this path.

        None where no role lists it, or where the role that does lacks signatures that its delegation asks for by now.
        Raises TrustMissing before the first publication, SignedFilesError when files are missing or altered, or wait
        for the completion of a root's installation.
        """
        target = self.target(path)
        return None if target is None else (target.length, target.hashes["sha256"])

    def target(self, path: str) -> TargetFile | None:
        """Return the signed entry itself, as `lookup` does."""
        role = role_of(path)
        if role is None:
            return None
        published = self._fresh()
        if role not in self._roles:
            self._roles[role] = self._read(role, published)
        signed = self._roles[role]
        target = signed.targets.get(path) if signed else None
        return target if target is not None and "sha256" in target.hashes else None

    def _fresh(self) -> Published:
        try:
            status = self._files.timestamp_path.stat()
        except FileNotFoundError:
            return self._files.read()
        # Every publication renames a new file over it: another inode, or the same one at another time.
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._published is None or seen != self._seen:
            published = self._read_current()
            if self._published is None or published.snapshot.version != self._published.snapshot.version:
                self._roles = {}
            self._published, self._seen = published, seen
        return self._published

    def _read_current(self) -> Published:
        try:
            published = self._files.read()
        except SignedFilesError:
            published = self._files.read()  # a new root and what follows it may have come between two reads
        if published.outdated:
            raise SignedFilesError(
                f"{', '.join(sorted(published.outdated))} is not signed by the keys of the newest root; install the "
                "root again, or let the controller refresh the repository"
            )
        return published

    def _read(self, role: str, published: Published) -> Targets | None:
        if role.startswith(RELEASE_PREFIX) and (
            role not in delegated(published.targets) or f"{role}.json" not in published.snapshot.meta
        ):
            return None
        try:
            return self._files.role(role, published)
        except _TooFewSignatures:
            return None


def delegated(targets: Targets) -> frozenset[str]:
    """Return the roles that the top-level targets delegate."""
    return frozenset((targets.delegations and targets.delegations.roles) or ())


class _TooFewSignatures(SignedFilesError):
    """A document in its place, of the right kind, that its delegator's keys have not signed."""


def _meta(role: str, snapshot: Snapshot) -> MetaFile:
    try:
        return snapshot.meta[f"{role}.json"]
    except KeyError as error:
        raise SignedFilesError(f"the snapshot does not name {role}") from error


def _check_version(role: str, signed: Snapshot | Targets, meta: MetaFile) -> None:
    if signed.version != meta.version:
        raise SignedFilesError(f"{role} carries version {signed.version}; the snapshot names {meta.version}")
