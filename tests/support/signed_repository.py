"""An image repository and a director for tests of the agent: really signed, held in memory, changed at will.

Independent of the controller's own code on purpose: the agent is tested against the published formats.
"""

import hashlib
import json
from collections.abc import Callable
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
from device_agent.protocol.channels import Channel
from device_agent.protocol.fields import format_utc
from device_agent.protocol.manifest import Manifest, target_path
from device_agent.protocol.time_answer import TIME_PAYLOAD_TYPE, TimeAnswer

YEAR = timedelta(days=365)
BINS = SuccinctRoles([], 1, 8, "bin")
Clock = Callable[[], datetime]


def key() -> CryptoSigner:
    """Return a new Ed25519 key."""
    return CryptoSigner.generate_ed25519()


def wall_clock() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


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
        return SlotAssignment(self.target, len(self.raw), self.sha256, soak_s, "test", self.manifest.version)


class SignedRepository:
    """`files` holds everything under `/tuf/`: `metadata/...` and `targets/...`."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        """`clock` tells when things are signed."""
        self.files: dict[str, bytes] = {}
        self.keys = {role: key() for role in ("root", "targets", "snapshot", "timestamp", "dev", "bins", "release")}
        self.version = 1
        self.targets_version = 0
        self.lifetime = YEAR
        self.clock = clock
        self._prod: dict[str, dict[str, TargetFile]] = {}
        self._prod_versions: dict[str, int] = {}
        self._dev_version = 0
        self._bins: dict[str, dict[str, TargetFile]] = {name: {} for name in BINS.get_roles()}
        self._bin_versions = dict.fromkeys(self._bins, 1)
        self.root = Root(expires=self._expires())
        for role in ("root", "targets", "snapshot", "timestamp"):
            self.root.add_key(self.keys[role].public_key, role)
        self.sign_root(self.keys["root"])
        self.sign_targets()
        self._sign_dev()
        for name in self._bins:
            self._sign_bin(name)
        self.sign_top()

    @property
    def bootstrap(self) -> bytes:
        """The root document that a device starts from."""
        return self.files["metadata/1.root.json"]

    def publish(
        self,
        manifest: Manifest,
        *,
        channel: Channel = Channel.DEV,
        raw: bytes | None = None,
        bad_bytes: bool = False,
        **custom: Any,
    ) -> Release:
        """Sign a manifest; `custom` adds to or lies about what is signed beside it (slot, release, hw, floor).

        `bad_bytes` serves other bytes than were signed.
        """
        path = target_path(manifest.model, manifest.version, manifest.variant, channel)
        release = Release(manifest, path, raw or manifest.to_bytes())
        target = TargetFile.from_data(path, release.raw, ["sha256"])
        target.unrecognized_fields["custom"] = {"slot": manifest.model, "release": manifest.version, **custom}
        directory, _, base = path.rpartition("/")
        served = release.raw[:-1] + b"~" if bad_bytes else release.raw
        self.files[f"targets/{directory}/{release.sha256}.{base}"] = served
        if channel is Channel.PROD:
            self._release(manifest.model, target)
        else:
            name = BINS.get_role_for_target(path)
            self._bins[name][path] = target
            self._bin_versions[name] += 1
            self._sign_bin(name)
        self.sign_top()
        return release

    def withdraw(self, release: Release) -> None:
        """Take a manifest off the repository again."""
        name = BINS.get_role_for_target(release.target)
        del self._bins[name][release.target]
        self._bin_versions[name] += 1
        self._sign_bin(name)
        self.sign_top()

    def list_in_bin(self, name: str, target: TargetFile) -> None:
        """Sign a target into a bin of one's choice, whatever its path; `sign_top` makes it known."""
        self._bins[name][target.path] = target
        self._bin_versions[name] += 1
        self._sign_bin(name)

    def list_in_release(self, model: str, target: TargetFile) -> None:
        """Sign a target into the release role of a model, whatever its path; `sign_top` makes it known."""
        self._release(model, target)

    def set_bin_version(self, name: str, version: int) -> None:
        """Sign a bin under a version of one's choice; `sign_top` makes it known."""
        self._bin_versions[name] = version
        self._sign_bin(name)

    def drop_bin(self, name: str) -> None:
        """Leave a bin out of the snapshots from now on."""
        del self._bin_versions[name]

    def renew(self) -> None:
        """Sign everything but the root anew, with fresh expiries, as a controller does that was never away."""
        self.sign_targets()
        self._sign_dev()
        for name in self._bins:
            self._bin_versions[name] += 1
            self._sign_bin(name)
        self.sign_top()

    def sign_root(self, *signers: CryptoSigner) -> None:
        """Publish the present root document."""
        document = Metadata(self.root)
        for signer in signers:
            document.sign(signer, append=True)
        self.files[f"metadata/{self.root.version}.root.json"] = document.to_bytes()

    def rotate(self, *roles: str) -> None:
        """Replace the keys of these roles by new ones, as the chain allows."""
        before = self.keys["root"]
        for role in roles:
            self.root.revoke_key(self.keys[role].public_key.keyid, role)
            self.keys[role] = key()
            self.root.add_key(self.keys[role].public_key, role)
        self.root.version += 1
        self.root.expires = self._expires()
        self.sign_root(*{id(signer): signer for signer in (before, self.keys["root"])}.values())

    def sign_top(self, *, issued: datetime | None = None) -> None:
        """Publish a snapshot and a timestamp, each one version further."""
        self.version += 1
        names = {"targets": self.targets_version, **{f"prod-{name}": v for name, v in self._prod_versions.items()}}
        meta = {
            f"{name}.json": MetaFile.from_data(version, self.files[f"metadata/{version}.{name}.json"], ["sha256"])
            for name, version in names.items()
        }
        meta["dev.json"] = MetaFile(self._dev_version)
        meta |= {f"{name}.json": MetaFile(version) for name, version in self._bin_versions.items()}
        snapshot = self.signed(Snapshot(version=self.version, expires=self._expires(), meta=meta), "snapshot")
        self.files[f"metadata/{self.version}.snapshot.json"] = snapshot
        self.sign_timestamp(MetaFile.from_data(self.version, snapshot, ["sha256"]), issued=issued)

    def sign_timestamp(
        self, snapshot: MetaFile, *, issued: datetime | None = None, signer: CryptoSigner | None = None
    ) -> None:
        """Publish a timestamp that names this snapshot."""
        fields = {"x-issued": format_utc(issued or self.clock())}
        signed = Timestamp(
            version=self.version, expires=self._expires(), snapshot_meta=snapshot, unrecognized_fields=fields
        )
        document = Metadata(signed)
        document.sign(signer or self.keys["timestamp"])
        self.files["metadata/timestamp.json"] = document.to_bytes()

    def sign_targets(self) -> None:
        """Publish the delegations, one version further."""
        self.targets_version += 1
        dev = DelegatedRole("dev", [], 1, terminating=True, paths=["dev/*/*/*/manifest.json"])
        prod = {
            f"prod-{model}": DelegatedRole(
                f"prod-{model}", [], 1, terminating=True, paths=[f"prod/{model}/*/*/manifest.json"]
            )
            for model in self._prod
        }
        delegations = Delegations({}, roles={**prod, "dev": dev})
        top = Targets(version=self.targets_version, expires=self._expires(), delegations=delegations)
        top.add_key(self.keys["dev"].public_key, "dev")
        for role in prod:
            top.add_key(self.keys["release"].public_key, role)
        self.files[f"metadata/{self.targets_version}.targets.json"] = self.signed(top, "targets")

    def signed(self, signed: Any, role: str) -> bytes:
        """Return a document with the signature of a role's key."""
        document: Metadata[Any] = Metadata(signed)
        document.sign(self.keys[role])
        return document.to_bytes()

    def _sign_dev(self) -> None:
        self._dev_version += 1
        bins = Targets(
            version=self._dev_version,
            expires=self._expires(),
            delegations=Delegations({}, succinct_roles=SuccinctRoles([], 1, 8, "bin")),
        )
        bins.add_key(self.keys["bins"].public_key)
        self.files[f"metadata/{self._dev_version}.dev.json"] = self.signed(bins, "dev")

    def _sign_bin(self, name: str) -> None:
        version = self._bin_versions[name]
        signed = Targets(version=version, expires=self._expires(), targets=dict(self._bins[name]))
        self.files[f"metadata/{version}.{name}.json"] = self.signed(signed, "bins")

    def _release(self, model: str, target: TargetFile) -> None:
        is_new = model not in self._prod
        self._prod.setdefault(model, {})[target.path] = target
        version = self._prod_versions[model] = self._prod_versions.get(model, 0) + 1
        signed = Targets(version=version, expires=self._expires(), targets=dict(self._prod[model]))
        self.files[f"metadata/{version}.prod-{model}.json"] = self.signed(signed, "release")
        if is_new:
            self.sign_targets()

    def _expires(self) -> datetime:
        return self.clock().replace(microsecond=0) + self.lifetime


class Director:
    """Signs assignments under its own root; `roots` holds its chain by version."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        """`clock` tells when things are signed."""
        self.root_key, self.signer = key(), key()
        self.clock = clock
        self.roots: dict[int, bytes] = {}
        self.root = Root(expires=self._expires())
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

    def rotate(self, *, root_key: bool = False) -> None:
        """Replace the assignment key by a new one, as the chain allows; with `root_key`, that one too."""
        self.root.revoke_key(self.signer.public_key.keyid, "targets")
        self.signer = key()
        self.root.add_key(self.signer.public_key, "targets")
        before = self.root_key
        if root_key:
            self.root.revoke_key(before.public_key.keyid, "root")
            self.root_key = key()
            self.root.add_key(self.root_key.public_key, "root")
        self.root.version += 1
        self.root.expires = self._expires()
        self.publish_root(*{id(signer): signer for signer in (before, self.root_key)}.values())

    def sign(self, assignment: Assignment) -> bytes:
        """Return the envelope as it is sent."""
        return self._envelope(assignment.to_payload(), PAYLOAD_TYPE)

    def sign_time(self, nonce: str, now: datetime) -> bytes:
        """Return the signed answer to a question about the time."""
        return self._envelope(TimeAnswer(nonce, now).to_payload(), TIME_PAYLOAD_TYPE)

    def _envelope(self, payload: bytes, payload_type: str) -> bytes:
        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self.signer)
        return json.dumps(envelope.to_dict()).encode()

    def _expires(self) -> datetime:
        return self.clock().replace(microsecond=0) + YEAR


def an_assignment(
    device: str,
    counter: int,
    slots: dict[str, SlotAssignment | None],
    *,
    issued: datetime | None = None,
    validity: timedelta = VALIDITY,
    poll_s: float = 0.1,
    hardware: str = "bench",
    channel: Channel = Channel.DEV,
) -> Assignment:
    """Return an assignment issued now, unless said otherwise."""
    at = (issued or wall_clock()).replace(microsecond=0)
    return Assignment(device, counter, at, at + validity, slots, poll_s, hardware, channel)
