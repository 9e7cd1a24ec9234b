"""The roles of the image repository: who signs what, for how long, and what an empty repository holds.

    root -> targets -> dev (dev/*/*/*/manifest.json, terminating) -> bin-00 ... bin-ff (succinct, TAP 15)
    root -> snapshot, timestamp

A manifest lives in the bin that the hash of its path selects, so that a device loads one small file out of 256
however many versions there are.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Root,
    Signed,
    SuccinctRoles,
    TargetFile,
    Targets,
)

from controller.trust.keys import KeyName, SignerOf
from device_agent.protocol.manifest import parse_manifest, target_path

DEV_PATHS = "dev/*/*/*/manifest.json"
BIN_BIT_LENGTH = 8
"""256 bins. Another length would move every manifest to another bin."""
BIN_PREFIX = "bin"
_BINS = SuccinctRoles([], 1, BIN_BIT_LENGTH, BIN_PREFIX)
BIN_ROLES = tuple(_BINS.get_roles())
HASHED_ROLES = frozenset({"targets", "dev"})
"""Roles whose length and sha256 the snapshot carries; for 256 bins the hashes would be most of its bytes."""


@dataclass(frozen=True)
class RolePolicy:
    """Which key signs a role, how long a signature is good, and with how much of that left it is renewed."""

    key: KeyName
    lifetime: timedelta
    renewed_before: timedelta


_BIN_POLICY = RolePolicy(KeyName.IMAGE_BINS, timedelta(days=30), timedelta(days=7))
_POLICIES = {
    "targets": RolePolicy(KeyName.IMAGE_TARGETS, timedelta(days=365), timedelta(days=60)),
    "dev": RolePolicy(KeyName.IMAGE_DEV, timedelta(days=30), timedelta(days=7)),
    "snapshot": RolePolicy(KeyName.IMAGE_SNAPSHOT, timedelta(days=7), timedelta(days=6)),
    # Signed every hour: its age bounds how long an old set of versions can be passed off as new.
    "timestamp": RolePolicy(KeyName.IMAGE_TIMESTAMP, timedelta(days=7), timedelta(days=7, hours=-1)),
}


def policy_of(role: str) -> RolePolicy:
    """Return the policy of a role; every name that is not a fixed role is a bin."""
    return _POLICIES.get(role, _BIN_POLICY)


def is_due(role: str, signed: Signed, now: datetime) -> bool:
    """Say whether a role's signature is to be renewed."""
    return signed.expires - now < policy_of(role).renewed_before


def bin_of(path: str) -> str:
    """Return the bin that a target path belongs to."""
    return _BINS.get_role_for_target(path)


def next_version(previous: int, now: datetime) -> int:
    """Return a version above the previous one, and above all of a past that a restored backup forgot."""
    return max(previous + 1, int(now.timestamp()))


def whole_seconds(now: datetime) -> datetime:
    """Return the moment in UTC without fractions, the only moments that TUF metadata holds."""
    return now.astimezone(UTC).replace(microsecond=0)


def new_root(signer_of: SignerOf) -> Root:
    """Return a root that names the keys of the three top roles, each with a threshold of one."""
    root = Root(consistent_snapshot=True)
    for role in ("targets", "snapshot", "timestamp"):
        root.add_key(signer_of(policy_of(role).key).public_key, role)
    return root


def new_targets(signer_of: SignerOf) -> Targets:
    """Return top-level targets that hold nothing and delegate the development channel."""
    dev = DelegatedRole("dev", [], threshold=1, terminating=True, paths=[DEV_PATHS])
    targets = Targets(delegations=Delegations({}, roles={"dev": dev}))
    targets.add_key(signer_of(policy_of("dev").key).public_key, "dev")
    return targets


def new_dev(signer_of: SignerOf) -> Targets:
    """Return the development role, which holds nothing and delegates all of it to the bins."""
    bins = SuccinctRoles([], 1, BIN_BIT_LENGTH, BIN_PREFIX)
    dev = Targets(delegations=Delegations({}, succinct_roles=bins))
    dev.add_key(signer_of(_BIN_POLICY.key).public_key)
    return dev


def manifest_target(content: bytes) -> TargetFile:
    """Return the target entry of a manifest: path and `custom` follow from what the manifest itself says.

    Raises ProtocolError when it is no manifest.
    """
    manifest = parse_manifest(content)
    path = target_path(manifest.model, manifest.version, manifest.variant)
    target = TargetFile.from_data(path, content, ["sha256"])
    target.unrecognized_fields["custom"] = {"slot": manifest.model, "release": manifest.version}
    return target
