"""An image repository and a director for tests of the agent: really signed, held in memory, changed at will.

Independent of the controller's own code on purpose: the agent is tested against the published formats.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.dsse import Envelope
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

from device_agent.protocol.assignment import PAYLOAD_TYPE, VALIDITY, Assignment, SlotAssignment
from device_agent.protocol.fields import format_utc
from device_agent.protocol.manifest import Manifest, target_path

YEAR = timedelta(days=365)
BINS = SuccinctRoles([], 1, 8, "bin")


def key() -> CryptoSigner:
    """Return a new Ed25519 key."""
    return CryptoSigner.generate_ed25519()


@dataclass(frozen=True)
class Release:
    """A published manifest."""

    manifest: Manifest
    target: str
    raw: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    def assigned(self, soak_s: float = 0.0) -> SlotAssignment:
        """Return what an assignment says of it."""
        return SlotAssignment(self.target, len(self.raw), self.sha256, soak_s, "test")


class SignedRepository:
    """`files` holds everything under `/tuf/`: `metadata/...` and `targets/...`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.keys = {role: key() for role in ("root", "targets", "snapshot", "timestamp", "dev", "bins")}
        self.version = 1
        self.lifetime = YEAR
        self._bins: dict[str, dict[str, TargetFile]] = {name: {} for name in BINS.get_roles()}
        self._bin_versions = dict.fromkeys(self._bins, 1)
        self.root = Root(expires=self._expires())
        for role in ("root", "targets", "snapshot", "timestamp"):
            self.root.add_key(self.keys[role].public_key, role)
        self.sign_root(self.keys["root"])
        self._sign_delegations()
        for name in self._bins:
            self._sign_bin(name)
        self.sign_top()

    @property
    def bootstrap(self) -> bytes:
        """The root document that a device starts from."""
        return self.files["metadata/1.root.json"]

    def publish(
        self, manifest: Manifest, *, slot: str | None = None, raw: bytes | None = None, bad_bytes: bool = False
    ) -> Release:
        """Sign a manifest; `slot` lies about the slot it is for, `bad_bytes` serves other bytes than were signed."""
        path = target_path(manifest.model, manifest.version, manifest.variant)
        release = Release(manifest, path, raw or manifest.to_bytes())
        target = TargetFile.from_data(path, release.raw, ["sha256"])
        target.unrecognized_fields["custom"] = {"slot": slot or manifest.model, "release": manifest.version}
        name = BINS.get_role_for_target(path)
        self._bins[name][path] = target
        self._bin_versions[name] += 1
        directory, _, base = path.rpartition("/")
        served = release.raw[:-1] + b"~" if bad_bytes else release.raw
        self.files[f"targets/{directory}/{release.sha256}.{base}"] = served
        self._sign_bin(name)
        self.sign_top()
        return release

    def sign_root(self, *signers: CryptoSigner) -> None:
        """Publish the present root document."""
        document = Metadata(self.root)
        for signer in signers:
            document.sign(signer, append=True)
        self.files[f"metadata/{self.root.version}.root.json"] = document.to_bytes()

    def sign_top(self, *, issued: datetime | None = None) -> None:
        """Publish a snapshot and a timestamp, each one version further."""
        self.version += 1
        meta = {"targets.json": MetaFile(1), "dev.json": MetaFile(1)}
        meta |= {f"{name}.json": MetaFile(version) for name, version in self._bin_versions.items()}
        snapshot = self._signed(Snapshot(version=self.version, expires=self._expires(), meta=meta), "snapshot")
        self.files[f"metadata/{self.version}.snapshot.json"] = snapshot
        self.sign_timestamp(MetaFile.from_data(self.version, snapshot, ["sha256"]), issued=issued)

    def sign_timestamp(
        self, snapshot: MetaFile, *, issued: datetime | None = None, signer: CryptoSigner | None = None
    ) -> None:
        """Publish a timestamp that names this snapshot."""
        fields = {"x-issued": format_utc(issued or datetime.now(UTC))}
        signed = Timestamp(
            version=self.version, expires=self._expires(), snapshot_meta=snapshot, unrecognized_fields=fields
        )
        document = Metadata(signed)
        document.sign(signer or self.keys["timestamp"])
        self.files["metadata/timestamp.json"] = document.to_bytes()

    def _sign_delegations(self) -> None:
        dev = DelegatedRole("dev", [], 1, terminating=True, paths=["dev/*/*/*/manifest.json"])
        top = Targets(expires=self._expires(), delegations=Delegations({}, roles={"dev": dev}))
        top.add_key(self.keys["dev"].public_key, "dev")
        self.files["metadata/1.targets.json"] = self._signed(top, "targets")
        bins = Targets(
            expires=self._expires(), delegations=Delegations({}, succinct_roles=SuccinctRoles([], 1, 8, "bin"))
        )
        bins.add_key(self.keys["bins"].public_key)
        self.files["metadata/1.dev.json"] = self._signed(bins, "dev")

    def _sign_bin(self, name: str) -> None:
        version = self._bin_versions[name]
        signed = Targets(version=version, expires=self._expires(), targets=dict(self._bins[name]))
        self.files[f"metadata/{version}.{name}.json"] = self._signed(signed, "bins")

    def _signed(self, signed: Any, role: str) -> bytes:
        document: Metadata[Any] = Metadata(signed)
        document.sign(self.keys[role])
        return document.to_bytes()

    def _expires(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0) + self.lifetime


class Director:
    """Signs assignments under its own root; `roots` holds its chain by version."""

    def __init__(self) -> None:
        self.root_key, self.signer = key(), key()
        self.roots: dict[int, bytes] = {}
        self.root = Root(expires=datetime.now(UTC).replace(microsecond=0) + YEAR)
        self.root.add_key(self.root_key.public_key, "root")
        self.root.add_key(self.signer.public_key, "targets")
        self.publish_root(self.root_key)

    @property
    def bootstrap(self) -> bytes:
        """The root document that a device starts from."""
        return self.roots[1]

    def publish_root(self, *signers: CryptoSigner) -> None:
        """Publish the present root document."""
        document = Metadata(self.root)
        for signer in signers:
            document.sign(signer, append=True)
        self.roots[self.root.version] = document.to_bytes()

    def rotate(self) -> None:
        """Replace the assignment key by a new one, as the chain allows."""
        self.root.revoke_key(self.signer.public_key.keyid, "targets")
        self.signer = key()
        self.root.add_key(self.signer.public_key, "targets")
        self.root.version += 1
        self.publish_root(self.root_key)

    def sign(self, assignment: Assignment) -> bytes:
        """Return the envelope as it is sent."""
        envelope = Envelope(assignment.to_payload(), PAYLOAD_TYPE, {})
        envelope.sign(self.signer)
        return json.dumps(envelope.to_dict()).encode()


def an_assignment(
    device: str,
    counter: int,
    slots: dict[str, SlotAssignment | None],
    *,
    issued: datetime | None = None,
    validity: timedelta = VALIDITY,
    poll_s: float = 0.1,
) -> Assignment:
    """Return an assignment issued now, unless said otherwise."""
    at = (issued or datetime.now(UTC)).replace(microsecond=0)
    return Assignment(device, counter, at, at + validity, slots, poll_s)
