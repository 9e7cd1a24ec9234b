"""A TUF repository with one release role, made with python-tuf alone: keys of every custody, documents at will.

Independent of the controller's own code on purpose: what a signer and a device accept is tested against the format.
"""

import copy
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from device_agent.protocol.fields import format_utc

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = "digits"
ROLE = f"prod-{MODEL}"
OFFLINE = ("root", "targets", "alice", "bob")
ONLINE = ("snapshot", "timestamp", "dev", "bins")
BINS = SuccinctRoles([], 1, 8, "bin")


def target_of(path: str, raw: bytes, **custom: Any) -> TargetFile:
    """Return a target with the sha256 of some bytes and its custom fields."""
    target = TargetFile.from_data(path, raw, ["sha256"])
    target.unrecognized_fields["custom"] = custom
    return target


class ReleaseRepository:
    """Publishes into `files` under `/tuf/metadata/`. The role is signed by alice and bob, `threshold` of them."""

    def __init__(self, files: dict[str, bytes], *, threshold: int = 2, now: datetime = NOW) -> None:
        self.files = files
        self.now = now
        self.keys = {name: CryptoSigner.generate_ed25519() for name in (*OFFLINE, *ONLINE)}
        self.version = 1
        self.root = Root(expires=now + timedelta(days=365))
        for role in ("root", "targets", "snapshot", "timestamp"):
            self.root.add_key(self.keys[role].public_key, role)
        delegated = DelegatedRole(ROLE, [], threshold, terminating=True, paths=[f"prod/{MODEL}/*/*/manifest.json"])
        dev = DelegatedRole("dev", [], 1, terminating=True, paths=["dev/*/*/*/manifest.json"])
        roles = {ROLE: delegated, "dev": dev}
        self.targets = Targets(expires=now + timedelta(days=365), delegations=Delegations({}, roles=roles))
        for person in ("alice", "bob"):
            self.targets.add_key(self.keys[person].public_key, ROLE)
        self.targets.add_key(self.keys["dev"].public_key, "dev")
        succinct = SuccinctRoles([], 1, 8, "bin")
        self.dev = Targets(expires=now + timedelta(days=30), delegations=Delegations({}, succinct_roles=succinct))
        self.dev.add_key(self.keys["bins"].public_key)
        self.bins = {name: Targets(expires=now + timedelta(days=30)) for name in BINS.get_roles()}
        self.role: Targets | None = None
        self.publish_all()

    @property
    def bootstrap(self) -> bytes:
        """The first root."""
        return self.files["/tuf/metadata/1.root.json"]

    def publish_all(self) -> None:
        """Write every document anew, each under its present version."""
        self.put("root", self.root, "root")
        self.put("targets", self.targets, "targets")
        self.put("dev", self.dev, "dev")
        for name, signed in self.bins.items():
            self.put(name, signed, "bins")
        self.commit()

    def publish_role(self, draft: Targets, *signers: str) -> None:
        """Publish a version of the role, signed by these people."""
        self.role = draft
        self.put(ROLE, draft, *signers)
        self.commit()

    def put(self, role: str, signed: Any, *signers: str) -> bytes:
        """Sign a numbered document and write it; nothing names it yet."""
        document: Metadata[Any] = Metadata(signed)
        for signer in signers:
            document.sign(self.keys[signer], append=True)
        raw = document.to_bytes()
        self.files[f"/tuf/metadata/{signed.version}.{role}.json"] = raw
        return raw

    def commit(self, **changed: Any) -> None:
        """Publish a snapshot of what there is and a timestamp; `changed` replaces entries of the snapshot."""
        self.version += 1
        hashed = {"targets": self.targets, "dev": self.dev, **({ROLE: self.role} if self.role else {})}
        meta = {
            f"{name}.json": MetaFile.from_data(
                signed.version, self.files[f"/tuf/metadata/{signed.version}.{name}.json"], ["sha256"]
            )
            for name, signed in hashed.items()
        }
        meta |= {f"{name}.json": MetaFile(signed.version) for name, signed in self.bins.items()}
        meta |= {f"{name.replace('_', '-')}.json": entry for name, entry in changed.items()}
        week = self.now + timedelta(days=7)
        raw = self.put("snapshot", Snapshot(version=self.version, expires=week, meta=meta), "snapshot")
        timestamp = Timestamp(
            version=self.version,
            expires=week,
            snapshot_meta=MetaFile.from_data(self.version, raw, ["sha256"]),
            unrecognized_fields={"x-issued": format_utc(self.now)},
        )
        document = Metadata(timestamp)
        document.sign(self.keys["timestamp"])
        self.files["/tuf/metadata/timestamp.json"] = document.to_bytes()

    def draft(self, add: Iterable[TargetFile] = (), **changes: Any) -> Targets:
        """Return the role's next version with more targets."""
        signed = copy.deepcopy(self.role) if self.role else Targets(unrecognized_fields={"x-role": ROLE})
        signed.version = self.role.version + 1 if self.role else 1
        signed.expires = self.now + timedelta(days=90)
        signed.targets |= {target.path: target for target in add}
        for name, value in changes.items():
            setattr(signed, name, value)
        return signed
