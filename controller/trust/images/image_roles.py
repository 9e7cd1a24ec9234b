"""The roles of the image repository: who signs what, for how long, and which of them holds a manifest.

    root -> targets -> prod-MODEL (prod/MODEL/*/*/manifest.json, terminating), by release keys
                    -> dev (dev/*/*/*/manifest.json, terminating) -> bin-00 ... bin-ff (succinct, TAP 15)
    root -> snapshot, timestamp

Offline keys sign root, targets and every `prod-MODEL`; the signer's keys sign the rest. A manifest of the channel
`dev` lives in the bin that the hash of its path selects, so that a device loads one small file out of 256 however
many versions there are. A model's releases are few and live in one file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Signed, SuccinctRoles, TargetFile, Targets

from controller.trust.custody.keys import KeyName
from device_agent.protocol.manifest import NAME, parse_manifest, target_path

DEV_PATHS = "dev/*/*/*/manifest.json"
RELEASE_PREFIX = "prod-"
BIN_BIT_LENGTH = 8
"""256 bins. Another length would move every manifest to another bin."""
BIN_PREFIX = "bin"
_BINS = SuccinctRoles([], 1, BIN_BIT_LENGTH, BIN_PREFIX)
BIN_ROLES = tuple(_BINS.get_roles())
_TARGET = re.compile(rf"(?P<channel>prod|dev)/(?P<model>{NAME.pattern})/[1-9][0-9]*/{NAME.pattern}/manifest\.json")


@dataclass(frozen=True)
class RolePolicy:
    """Which key signs a role, how long a signature is good, and with how much of that left it is renewed."""

    key: KeyName
    lifetime: timedelta
    renewed_before: timedelta


_BIN_POLICY = RolePolicy(KeyName.IMAGE_BINS, timedelta(days=30), timedelta(days=7))
_RELEASE_POLICY = RolePolicy(KeyName.RELEASE, timedelta(days=90), timedelta(days=30))
_POLICIES = {
    "root": RolePolicy(KeyName.IMAGE_ROOT, timedelta(days=365), timedelta(days=60)),
    "targets": RolePolicy(KeyName.IMAGE_TARGETS, timedelta(days=365), timedelta(days=60)),
    "dev": RolePolicy(KeyName.IMAGE_DEV, timedelta(days=30), timedelta(days=7)),
    "snapshot": RolePolicy(KeyName.IMAGE_SNAPSHOT, timedelta(days=7), timedelta(days=6)),
    # Signed every hour: its age bounds how long an old set of versions can be passed off as new.
    "timestamp": RolePolicy(KeyName.IMAGE_TIMESTAMP, timedelta(days=7), timedelta(days=7, hours=-1)),
}


def policy_of(role: str) -> RolePolicy:
    """Return the policy of a role; every name that is neither a fixed role nor a release role is a bin."""
    return _RELEASE_POLICY if role.startswith(RELEASE_PREFIX) else _POLICIES.get(role, _BIN_POLICY)


def is_due(role: str, signed: Signed, now: datetime) -> bool:
    """Say whether a role's signature is to be renewed."""
    return signed.expires - now < policy_of(role).renewed_before


def is_hashed(role: str) -> bool:
    """Say whether the snapshot carries a role's length and sha256, and not its version alone.

    A thief of the role's key could otherwise put other content under a version that is known. For 256 bins the
    hashes would be most of the snapshot, and their key is no better guarded than the snapshot's.
    """
    return role in {"targets", "dev"} or role.startswith(RELEASE_PREFIX)


def bin_of(path: str) -> str:
    """Return the bin that a target path belongs to."""
    return _BINS.get_role_for_target(path)


def release_role(model: str) -> str:
    """Return the role that signs a model's releases."""
    return f"{RELEASE_PREFIX}{model}"


def release_paths(model: str) -> str:
    """Return the pattern of the targets that a model's release role may sign."""
    return f"prod/{model}/*/*/manifest.json"


def role_of(path: str) -> str | None:
    """Return the one role that may list a target path; None for a path that no manifest has."""
    found = _TARGET.fullmatch(path)
    if found is None:
        return None
    return release_role(found["model"]) if found["channel"] == "prod" else bin_of(path)


def next_version(previous: int, now: datetime) -> int:
    """Return a version above the previous one, and above all of a past that a restored backup forgot."""
    return max(previous + 1, int(now.timestamp()))


def whole_seconds(now: datetime) -> datetime:
    """Return the moment in UTC without fractions, the only moments that TUF metadata holds."""
    return now.astimezone(UTC).replace(microsecond=0)


def new_targets(public_key: Callable[[KeyName], Key]) -> Targets:
    """Return top-level targets that hold nothing and delegate the development channel to the signer's key."""
    dev = DelegatedRole("dev", [], threshold=1, terminating=True, paths=[DEV_PATHS])
    targets = Targets(delegations=Delegations({}, roles={"dev": dev}))
    targets.add_key(public_key(KeyName.IMAGE_DEV), "dev")
    return targets


def new_dev(bins_key: Key) -> Targets:
    """Return the development role, which holds nothing and delegates all of it to the bins."""
    bins = SuccinctRoles([], 1, BIN_BIT_LENGTH, BIN_PREFIX)
    dev = Targets(delegations=Delegations({}, succinct_roles=bins))
    dev.add_key(bins_key)
    return dev


def manifest_target(content: bytes, channel: str = "dev") -> TargetFile:
    """Return the target entry of a manifest: path and `custom` follow from what the manifest itself says.

    Raises ProtocolError when it is no manifest.
    """
    manifest = parse_manifest(content)
    path = target_path(manifest.model, manifest.version, manifest.variant, channel)
    target = TargetFile.from_data(path, content, ["sha256"])
    target.unrecognized_fields["custom"] = {"slot": manifest.model, "release": manifest.version}
    return target
