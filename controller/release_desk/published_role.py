"""The release role of a model as it is published now, verified from the signer's own root.

The root chain and the top roles are followed by python-tuf's client, in a folder of the signer's own. What the client
does not do is done here: the highest versions seen are kept durably, apart from its cache, which is not synced; and a
role that has expired can still be read, or nobody could ever renew it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater, UpdaterConfig

from controller.release_desk.report import DeskCode, DeskRefusal
from controller.release_desk.source import Source, SourceError, SourceFetcher
from controller.trust.durable_files import exclusive, write_durably
from controller.trust.images.image_roles import release_role

MARKS = "marks.json"
ROLE_BYTES_MAX = 4 * 1024 * 1024
"""A role of some ten thousand targets."""
_CONFIG = UpdaterConfig(
    max_root_rotations=256,
    root_max_length=64 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=1024 * 1024,
    targets_max_length=1024 * 1024,
)


@dataclass(frozen=True)
class PublishedRole:
    """Who signs the role, and what it holds now."""

    name: str
    keys: Mapping[str, Key]
    """The release keys by id."""
    threshold: int
    current: Targets | None
    """None before its first release."""
    root_version: int
    sha256: str
    """Of the published file; empty before the first release."""

    @property
    def version(self) -> int:
        """The published version, 0 before the first."""
        return self.current.version if self.current else 0


@dataclass(frozen=True)
class _Mark:
    """The highest version seen of a role under the same keys, and the digest of what carried it."""

    epoch: str
    version: int
    sha256: str


class RepositoryFolder:
    """A signer's own folder for one repository: python-tuf's cache, and the marks. One process at a time is in it."""

    def __init__(self, directory: Path, source: Source, root: bytes, known: str | None = None) -> None:
        """`root` is a root document that the signer trusts, not one that the controller sent.

        `known` is the sha256 of a published role that the signer knows to be right although its keys were replaced.
        """
        self._known = known
        self._directory = directory
        self._source = source
        self._root = root

    def follow(self, model: str, now: datetime) -> PublishedRole:
        """Follow the repository to its present state and return the model's role.

        DeskRefusal with ROOT, ROLLBACK or ROLE.
        """
        with exclusive(self._directory):
            trusted = self._refreshed(now)
            name = release_role(model)
            delegations = trusted.targets.delegations
            if delegations is None or delegations.roles is None or name not in delegations.roles:
                raise DeskRefusal(
                    DeskCode.ROLE,
                    f"the image repository delegates no role {name}; an offline ceremony makes it: "
                    "`edgefleet key ceremony start`",
                )
            delegated = delegations.roles[name]
            marks = self._marks()
            current, digest = self._read(name, trusted.snapshot, trusted.targets, marks.get(name))
            self._mark(marks, trusted, name, current, digest, delegated.keyids)
        keys = {keyid: delegations.keys[keyid] for keyid in delegated.keyids}
        return PublishedRole(name, keys, delegated.threshold, current, trusted.root.version, digest)

    def _refreshed(self, now: datetime) -> Any:
        cache = self._directory / "tuf"
        cache.mkdir(parents=True, exist_ok=True)
        base = f"{self._source.server}/tuf"
        try:
            updater = Updater(
                str(cache),
                f"{base}/metadata/",
                str(cache),
                f"{base}/targets/",
                fetcher=SourceFetcher(self._source, ROLE_BYTES_MAX),
                config=_CONFIG,
                bootstrap=self._root,
            )
            # python-tuf has no public way to set the time; a contract test guards this attribute.
            updater._trusted_set.reference_time = now  # noqa: SLF001
            updater.refresh()
        except (RepositoryError, DownloadError, DeserializationError) as error:
            raise DeskRefusal(DeskCode.ROOT, f"the image repository does not follow from your root: {error}") from error
        return updater._trusted_set  # noqa: SLF001

    def _read(self, name: str, snapshot: Snapshot, targets: Targets, mark: _Mark | None) -> tuple[Targets | None, str]:
        meta = snapshot.meta.get(f"{name}.json")
        if meta is None:
            return None, ""
        try:
            raw = self._source.fetch(f"/tuf/metadata/{meta.version}.{name}.json", bytes_max=ROLE_BYTES_MAX)
            meta.verify_length_and_hashes(raw)
            document = Metadata[Targets].from_bytes(raw)
            digest = hashlib.sha256(raw).hexdigest()
            # Verified before under the keys of then: revoking one must not keep the others from signing again.
            if digest not in {mark and mark.sha256, self._known}:
                self._verify(name, document, targets, digest)
        except (SourceError, RepositoryError, DeserializationError) as error:
            raise DeskRefusal(DeskCode.ROOT, f"the published role {name} cannot be trusted: {error}") from error
        if document.signed.type != Targets.type or document.signed.version != meta.version:
            raise DeskRefusal(DeskCode.ROOT, f"the published role {name} is not the one that the snapshot names")
        # Not its expiry: what has expired is signed again, and says truly what was released.
        return document.signed, digest

    def _verify(self, name: str, document: Metadata[Targets], targets: Targets, digest: str) -> None:
        try:
            targets.verify_delegate(name, document.signed_bytes, document.signatures)
        except RepositoryError as error:
            raise DeskRefusal(
                DeskCode.ROOT,
                f"the published role {name} cannot be trusted: {error}. If its keys were replaced since, sign on a "
                f"machine that has checked it before; or, when somebody who has tells you that it is {digest}, with "
                "--published and this digest",
            ) from error

    def _marks(self) -> dict[str, _Mark]:
        path = self._directory / MARKS
        stored = json.loads(path.read_bytes()) if path.exists() else {}
        return {role: _Mark(**mark) for role, mark in stored.items()}

    def _mark(
        self,
        marks: dict[str, _Mark],
        trusted: Any,
        name: str,
        current: Targets | None,
        digest: str,
        keyids: list[str],
    ) -> None:
        root: Root = trusted.root
        seen = {
            "root": _Mark("", root.version, ""),
            "timestamp": _Mark(_epoch(root, "timestamp"), trusted.timestamp.version, ""),
            "snapshot": _Mark(_epoch(root, "snapshot", "timestamp"), trusted.snapshot.version, ""),
            "targets": _Mark(_epoch(root, "targets"), trusted.targets.version, ""),
            name: _Mark(_digest(",".join(sorted(keyids))), current.version if current else 0, digest),
        }
        for role, mark in seen.items():
            _refuse_less(role, marks.get(role), mark)
        stored = {role: vars(mark) for role, mark in {**marks, **seen}.items()}
        content = json.dumps(stored, indent=1, sort_keys=True).encode()
        write_durably(self._directory / MARKS, content, mode=0o600)


def check_key(key: Key, published: PublishedRole) -> None:
    """Refuse a key that the role does not name: its signature would count for nothing. DeskRefusal(KEY)."""
    if key.keyid not in published.keys or published.keys[key.keyid].keyval != key.keyval:
        known = ", ".join(keyid[:12] for keyid in published.keys)
        raise DeskRefusal(DeskCode.KEY, f"the key {key.keyid[:12]} may not sign {published.name}; its keys are {known}")


def _refuse_less(role: str, before: _Mark | None, now: _Mark) -> None:
    if before is None or before.epoch != now.epoch:
        return
    if now.version < before.version:
        raise DeskRefusal(
            DeskCode.ROLLBACK, f"{role} is at version {now.version}; you have seen {before.version} of it before"
        )
    if now.version == before.version and now.sha256 != before.sha256:
        raise DeskRefusal(
            DeskCode.ROLLBACK, f"{role} version {now.version} is not what you have seen under that number"
        )


def _epoch(root: Root, *roles: str) -> str:
    return _digest(";".join(",".join(sorted(root.roles[role].keyids)) for role in roles))


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:16]
