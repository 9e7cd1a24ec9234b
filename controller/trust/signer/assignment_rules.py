"""Which assignments the signer signs: fresh ones, of published targets, approved where somebody must approve."""

import json
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, SSlibKey
from tuf.api.metadata import TargetFile

from controller.trust.approvals import open_approval
from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from controller.trust.signer.assignment_reading import ReadAssignment, ReadSlot, read_assignment
from controller.trust.signer.published import SignedTargets
from device_agent.protocol.assignment import (
    ASSIGNMENT_BYTES_MAX,
    ISSUED_AHEAD,
    VALIDITY,
)
from device_agent.protocol.errors import ProtocolError

COUNTER_BEHIND = timedelta(seconds=60)
"""Counters follow the clock; one that is further behind comes from a database of the past."""
PAYLOAD_BYTES_MAX = ASSIGNMENT_BYTES_MAX * 3 // 4 - 1024
"""What fits into an envelope that devices read."""
RELEASED = "prod/"


class AssignmentRules:
    """The rules at one moment, for a batch: each target is looked up once."""

    def __init__(self, published: SignedTargets, approved: Collection[str] | None, now: datetime) -> None:
        """Take what is published, the manifests that are approved (None: nobody needs to), and the time."""
        self._published = published
        self._approved = approved
        self._now = now
        self._counter_least = int((now - COUNTER_BEHIND).timestamp())
        self._found: dict[str, TargetFile | None] = {}

    def check(self, payload: bytes) -> None:
        """Return when this payload may be signed; SignerRefused with its code otherwise."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise _refused(SignerCode.CONTENT, f"an assignment has {len(payload)} bytes; at most {PAYLOAD_BYTES_MAX}")
        try:
            assignment = read_assignment(payload)
        except ProtocolError as error:
            raise _refused(SignerCode.CONTENT, f"no assignment: {error}") from error
        self._check_times(assignment)
        for slot, assigned in assignment.slots.items():
            if assigned:
                self._check_slot(slot, assigned)

    def _check_times(self, assignment: ReadAssignment) -> None:
        if assignment.counter < self._counter_least:
            raise _refused(
                SignerCode.ROLLBACK,
                f"counter {assignment.counter} of {assignment.device} is behind the clock; it must be at least "
                f"{self._counter_least}",
            )
        is_fresh = abs(assignment.issued - self._now) <= ISSUED_AHEAD
        if not is_fresh or not timedelta() < assignment.expires - assignment.issued <= VALIDITY:
            raise _refused(
                SignerCode.CONTENT,
                f"the assignment of {assignment.device} is issued {assignment.issued:%Y-%m-%d %H:%M:%S} and expires "
                f"{assignment.expires:%Y-%m-%d %H:%M:%S}; it must be issued now and hold for at most {VALIDITY}",
            )

    def _check_slot(self, slot: str, assigned: ReadSlot) -> None:
        target = self._target(assigned.target)
        if target is None or target.length != assigned.length or target.hashes.get("sha256") != assigned.sha256:
            what = "is not published" if target is None else "is published with another length or sha256"
            raise _refused(SignerCode.NOT_IN_IMAGE_REPO, f"{assigned.target} {what}")
        custom = target.custom or {}
        if custom.get("slot", slot) != slot or custom.get("release", assigned.release) != assigned.release:
            raise _refused(
                SignerCode.NOT_IN_IMAGE_REPO,
                f"{assigned.target} is published for slot {custom.get('slot')} as release {custom.get('release')}, "
                f"not for {slot} as {assigned.release}",
            )
        needs_approval = self._approved is not None and assigned.target.startswith(RELEASED)
        if needs_approval and assigned.sha256 not in (self._approved or ()):
            raise _refused(SignerCode.NOT_APPROVED, f"no approval that holds covers {assigned.target}")

    def _target(self, path: str) -> TargetFile | None:
        if path not in self._found:
            self._found[path] = self._published.find(path)
        return self._found[path]


class Approvers:
    """The people whose approval released models need: public keys in PEM, as a JSON list in one file.

    Without the file nobody's approval is needed. It is read again when it changes.
    """

    def __init__(self, path: Path) -> None:
        """Name the file."""
        self._path = path
        self._read: tuple[int, list[Key]] | None = None

    def approved(self, approvals: Iterable[bytes], now: datetime) -> set[str] | None:
        """Return the manifests (sha256) that approvals cover which hold now; None where none are needed.

        An approval that is malformed, expired or signed by nobody known covers nothing.
        """
        keys = self._keys()
        if keys is None:
            return None
        return {sha256 for approval in approvals for sha256 in _covered(approval, keys, now)}

    def _keys(self) -> list[Key] | None:
        try:
            stamp = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, self._load()
        return self._read[1]

    def _load(self) -> list[Key]:
        try:
            pems = json.loads(self._path.read_bytes())
            return [SSlibKey.from_crypto(load_pem_public_key(pem.encode())) for pem in pems]
        except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
            raise KeyStoreError(f"{self._path} is no JSON list of public keys in PEM: {error}") from error


def _covered(approval: bytes, keys: list[Key], now: datetime) -> tuple[str, ...]:
    try:
        envelope, content = open_approval(approval.decode())
        envelope.verify(keys, 1)
    except (ProtocolError, VerificationError, ValueError):
        return ()
    return tuple(content.manifests) if now < content.expires else ()


def _refused(code: SignerCode, detail: str) -> SignerRefused:
    return SignerRefused(detail, code=code)
