"""The highest versions that this device has seen of the image repository, kept durably beside python-tuf's cache.

The cache is not synced, and a file there that does not parse is silently ignored, rollback protection with it. And
where one version is served with two contents, python-tuf silently keeps the first: a device would stand still without
a word.
"""

import hashlib
from typing import Any

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, Root, Signed, Timestamp
from tuf.api.serialization.json import CanonicalJSONSerializer

from device_agent.journal import RoleMark
from device_agent.protocol.errors import Code, ProtocolError

Marks = dict[str, RoleMark]


def seen_marks(trusted: Any, served_timestamp: bytes | None, cached_snapshot: bytes) -> Marks:
    """Return the marks of a verified repository.

    `trusted` is python-tuf's trusted set after a refresh, which has accepted the served timestamp or found it to be of
    the version it has. Raises EQUIVOCATION where a version has two contents.
    """
    root: Root = trusted.root
    digest = _digest(trusted.timestamp)
    if served_timestamp is not None:
        served: Metadata[Timestamp] = Metadata.from_bytes(served_timestamp)
        if _digest(served.signed) != digest:
            raise _equivocation("timestamp", trusted.timestamp.version)
    try:
        trusted.timestamp.snapshot_meta.verify_length_and_hashes(cached_snapshot)
    except LengthOrHashMismatchError as error:
        raise _equivocation("snapshot", trusted.snapshot.version) from error
    return {
        "root": RoleMark("", root.version),
        "timestamp": RoleMark(_epoch(root, "timestamp"), trusted.timestamp.version, digest),
        "snapshot": RoleMark(
            _epoch(root, "snapshot", "timestamp"), trusted.snapshot.version, _digest(trusted.snapshot)
        ),
    }


def compare_marks(before: Marks, seen: Marks) -> None:
    """Refuse what is older than what was seen before, or another content of the same version.

    Marks of other keys do not count: rotating the keys is how a fast-forward is recovered from.
    """
    for role, mark in seen.items():
        old = before.get(role)
        if old is None or old.epoch != mark.epoch:
            continue
        if mark.version < old.version:
            message = f"{role} version {mark.version} is below {old.version}, seen before"
            raise ProtocolError(Code.ROLLBACK, message, role="cache-lost")
        if mark.version == old.version and old.digest and mark.digest != old.digest:
            raise _equivocation(role, mark.version)


def _equivocation(role: str, version: int) -> ProtocolError:
    return ProtocolError(Code.EQUIVOCATION, f"two different contents are signed as version {version}", role=role)


def _digest(signed: Signed) -> str:
    """Return the sha256 of what is signed; signatures may differ where the same is signed again."""
    return hashlib.sha256(CanonicalJSONSerializer().serialize(signed)).hexdigest()


def _epoch(root: Root, *roles: str) -> str:
    keys = [",".join(sorted(root.roles[role].keyids)) for role in roles]
    return hashlib.sha256(";".join(keys).encode()).hexdigest()[:16]
