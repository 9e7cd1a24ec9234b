"""How a new state of the image repository is signed and written, so that devices see the old one or the new.

Order: targets, roles, snapshot, then a new root if there is one, timestamp. A number is never used for two contents
and only timestamp.json is ever replaced, so its replacement is the commit: a crash before it leaves files that nobody
names, and the same call, made again, completes the work.

A root that names other keys for snapshot or timestamp comes last: while the signer holds the old and the new key,
both sign the state before it, so that devices accept that under either root. Where the old key is gone, or the
targets are signed by new keys alone, no order is right at every moment. Then the root comes just before the
timestamp, with everything else in place: a device that reads between these two renames finds a signature error, keeps
what it runs, and goes on with its next look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from controller.trust.custody.keys import KeyName
from controller.trust.durable_files import Write
from controller.trust.errors import SignedFilesError, SignerCode, SignerRefused, SigningKeyError, TrustConflict
from controller.trust.images.image_roles import is_hashed, next_version, policy_of
from controller.trust.images.published import Published, PublishedFiles
from controller.trust.images.root_chain import RootChain
from controller.trust.images.signed_documents import read_document
from controller.trust.signer.interface import OnlineSigner
from device_agent.protocol.fields import format_utc

_Online = Timestamp | Snapshot | Targets


@dataclass
class Changes:
    """What a publication changes on top of the published state."""

    online: Mapping[str, Targets] = field(default_factory=dict)
    """Roles that the signer signs, by name; they get new versions."""
    offline: Mapping[str, bytes] = field(default_factory=dict)
    """Documents signed elsewhere, verified, by role."""
    root: bytes | None = None
    """The next root, verified."""
    former: Root | None = None
    """The root that it follows."""
    above: Mapping[str, int] = field(default_factory=dict)
    """Versions that the roles' new versions must pass."""


class Publication:
    """Signs and writes below one directory; its caller holds the directory's lock."""

    def __init__(self, files: PublishedFiles, signer: OnlineSigner, write: Write) -> None:
        """Take where the files are, who signs and how a file is written."""
        self._files = files
        self._signer = signer
        self._write = write
        self._roots = RootChain(files.metadata, write)

    def commit(self, published: Published, changes: Changes, now: datetime) -> None:
        """Publish changed roles with a new snapshot and timestamp.

        `published` is the state that they are changes of, already with its root and delegations replaced. Raises
        SigningKeyError when a key of the signer is not the one that is named, SignerRefused and SignerUnavailable from
        the signer; nothing is published then.
        """
        left = published.outdated - {"snapshot", "timestamp"} - set(changes.offline)
        if left:
            raise SignedFilesError(
                f"{', '.join(left)} is not signed by the keys of the newest root; install a targets document that is"
            )
        snapshot = published.snapshot
        for role, raw in changes.offline.items():
            version, placed = self._place(role, raw, published)
            snapshot.meta[f"{role}.json"] = MetaFile.from_data(version, placed, ["sha256"])
        for role, signed in changes.online.items():
            raw = self._sign_numbered(role, signed, published, changes, now)
            snapshot.meta[f"{role}.json"] = (
                MetaFile.from_data(signed.version, raw, ["sha256"]) if is_hashed(role) else MetaFile(signed.version)
            )
        raw = self._sign_numbered("snapshot", snapshot, published, changes, now)
        named = MetaFile.from_data(snapshot.version, raw, ["sha256"])
        timestamp = self._timestamp(published, named, changes, now)
        if changes.root is None or changes.former is None:
            self._append_root(changes)
            self._write(self._files.timestamp_path, timestamp)
            return
        targets = self._files.path("targets", snapshot.meta["targets.json"].version).read_bytes()
        documents = {"timestamp": timestamp, "snapshot": raw, "targets": targets}
        if _are_signed(documents, changes.former):
            self._write(self._files.timestamp_path, timestamp)
            self._append_root(changes)
        else:
            self._append_root(changes)
            self._write(self._files.timestamp_path, timestamp)

    def commit_timestamp(self, published: Published, now: datetime) -> None:
        """Publish the same state with a new timestamp."""
        raw = self._timestamp(published, published.timestamp.snapshot_meta, Changes(), now)
        self._write(self._files.timestamp_path, raw)

    def _timestamp(self, published: Published, snapshot: MetaFile, changes: Changes, now: datetime) -> bytes:
        timestamp = published.timestamp
        timestamp.version = next_version(max(timestamp.version, changes.above.get("timestamp", 0)), now)
        timestamp.snapshot_meta = snapshot
        timestamp.unrecognized_fields["x-issued"] = format_utc(now)
        # An auditor who holds a copy of the signer's journal sees by this whether a signature is missing in it.
        timestamp.unrecognized_fields["x-log"] = self._signer.journal_head()
        return self._sign("timestamp", timestamp, published, changes, now)

    def _append_root(self, changes: Changes) -> None:
        if changes.root is not None:
            self._roots.append(changes.root)

    def _place(self, role: str, raw: bytes, published: Published) -> tuple[int, bytes]:
        """Write a document that was signed elsewhere; return its version, and the bytes that stand under it."""
        document = read_document(raw, Targets, role)
        path = self._files.path(role, document.signed.version)
        if path.exists():
            present = path.read_bytes()
            there = read_document(present, Targets, str(path))
            if there.signed_bytes == document.signed_bytes:
                # A publication that was cut off, since when another signature may have come.
                if published.delegator(role).get_verification_result(role, there.signed_bytes, there.signatures):
                    return document.signed.version, present
            elif self._roots.exists():
                raise TrustConflict(
                    f"version {document.signed.version} of {role} exists with other content, from a publication that "
                    "was cut off; publish that one again, or sign a document with a higher version"
                )
        self._write(path, raw)
        return document.signed.version, raw

    def _sign_numbered(
        self, role: str, signed: Snapshot | Targets, published: Published, changes: Changes, now: datetime
    ) -> bytes:
        signed.version = next_version(max(signed.version, changes.above.get(role, 0)), now)
        self._pass_files(role, signed)
        raw = self._sign(role, signed, published, changes, now)
        self._write(self._files.path(role, signed.version), raw)
        return raw

    def _pass_files(self, role: str, signed: _Online) -> None:
        while self._files.path(role, signed.version).exists():
            signed.version += 1

    def _sign(self, role: str, signed: _Online, published: Published, changes: Changes, now: datetime) -> bytes:
        signed.expires = now + policy_of(role).lifetime
        try:
            return self._signed(role, signed, published, changes.former)
        except SignerRefused as refused:
            if refused.code != SignerCode.ROLLBACK:
                raise
            # It has signed more than is published: a publication was cut off, or an old folder was restored.
            signed.version = max(signed.version, self._signer.newest_versions().get(role, 0)) + 1
            self._pass_files(role, signed)
            return self._signed(role, signed, published, changes.former)

    def _signed(self, role: str, signed: _Online, published: Published, former: Root | None) -> bytes:
        delegator: Root | Targets = published.delegator(role)
        document = Metadata[Any](signed)
        name = policy_of(role).key
        keyid = self._held(name, delegator.get_delegated_role(role).keyids)
        if keyid is None:
            raise SigningKeyError(
                f"the signer's {name} is not the key published for {role}; bring its key back, or finish the ceremony "
                f"that names the new one (`edgefleet key rotate {name}`)"
            )
        self._add_signature(document, role, keyid)
        if not delegator.get_verification_result(role, document.signed_bytes, document.signatures):
            raise SigningKeyError(f"the signature that the signer made for {role} does not verify")
        if former is not None and role in former.roles and keyid not in former.roles[role].keyids:
            old = self._held(name, former.roles[role].keyids)
            if old is not None:
                self._add_signature(document, role, old)
        return document.to_bytes()

    def _held(self, name: KeyName, keyids: Sequence[str]) -> str | None:
        """Return the newest of the signer's keys that is among these; None where there is none."""
        held = [key.keyid for key in self._signer.public_keys(name) if key.keyid in keyids]
        return held[-1] if held else None

    def _add_signature(self, document: Metadata[Any], role: str, keyid: str) -> None:
        signature = self._signer.sign_role(role, document.signed_bytes, [keyid])
        document.signatures[signature.keyid] = signature


def _are_signed(documents: Mapping[str, bytes], root: Root) -> bool:
    read = {role: Metadata[Any].from_bytes(raw) for role, raw in documents.items()}
    return all(
        root.get_verification_result(role, document.signed_bytes, document.signatures)
        for role, document in read.items()
    )
