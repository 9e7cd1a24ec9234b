"""The image repository as a device sees it: python-tuf's client, with what it lacks.

python-tuf verifies the repository. Added here, each for a reason that was reproduced against its release 7.0.1:

* every document is fetched with a total deadline and a slowest rate (`image_fetching`);
* trust starts from the enrolled root at every start (its cached root.json is not a trust anchor);
* time comes from the device clock with its floor (it reads the system clock);
* the highest versions seen are compared with marks that the caller keeps durably (`image_marks`);
* no role counts one key twice, and no key of its root is one of the director's (it counts key ids);
* its errors become codes with the role that was at fault.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NewType

from tuf.api.metadata import Root, TargetFile, Targets
from tuf.ngclient import Updater, UpdaterConfig

from device_agent.image_fetching import BoundedFetcher, OverloadedError, translated
from device_agent.image_marks import Marks, compare_marks, seen_marks
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import parse_utc
from device_agent.protocol.key_material import all_material, counts_a_key_twice
from device_agent.protocol.manifest import MANIFEST_BYTES_MAX, Manifest, parse_manifest
from device_agent.transport import Transport

__all__ = ["ImageRepository", "OverloadedError", "SignedManifest", "VerifiedManifest"]

_CONFIG = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=64 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=256 * 1024,
    targets_max_length=256 * 1024,
)


@dataclass(frozen=True)
class SignedManifest:
    """A manifest with the exact bytes that were signed."""

    raw: bytes
    manifest: Manifest
    sha256: str
    floor: int
    """The lowest release of this slot that devices shall still accept, as signed beside it; 0 where nothing is said."""


VerifiedManifest = NewType("VerifiedManifest", SignedManifest)
"""A manifest that both repositories sign for this slot, this class of hardware and one release above the floor."""


class ImageRepository:
    """One refreshed view of the repository. Make a new one for every look: it never refreshes twice."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        cache: Path,
        bootstrap: bytes,
        now: datetime,
        *,
        foreign_keys: Collection[str] = (),
    ) -> None:
        """`base_url` holds `metadata/` and `targets/`; `bootstrap` is the enrolled root, `now` the device's time.

        `foreign_keys` are the director's (`DirectorTrust.keys`).
        """
        cache.mkdir(parents=True, exist_ok=True)
        self._cache = cache
        self._foreign_keys = frozenset(foreign_keys)
        self._fetcher = BoundedFetcher(transport)
        with translated(self._fetcher):
            self._updater = Updater(
                str(cache),
                f"{base_url}/metadata/",
                str(cache),
                f"{base_url}/targets/",
                fetcher=self._fetcher,
                config=_CONFIG,
                bootstrap=bootstrap,
            )
        # python-tuf has no public way to set the time or to see what it trusts; a contract test guards this attribute.
        self._trusted: Any = self._updater._trusted_set  # noqa: SLF001
        self._trusted.reference_time = now
        self.issued: datetime | None = None
        """When the timestamp says it was issued; known after `refresh`."""

    def refresh(self, marks: Marks) -> Marks:
        """Verify the newest metadata against the highest versions seen; return the marks to store before acting."""
        with translated(self._fetcher):
            self._updater.refresh()
        self._check_root(self._trusted.root)
        seen = seen_marks(self._trusted, self._fetcher.timestamp, (self._cache / "snapshot.json").read_bytes())
        compare_marks(marks, seen)
        issued = self._trusted.timestamp.unrecognized_fields.get("x-issued")
        try:
            self.issued = parse_utc(issued) if issued else None
        except (TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(Code.MALFORMED, f"x-issued is {issued!r}", role="timestamp") from error
        return seen

    def find(self, target: str) -> TargetFile | None:
        """Return what is signed of a target, None where nothing is; call `refresh` first."""
        with translated(self._fetcher):
            info = self._updater.get_targetinfo(target)
        for signed in self._trusted:
            if isinstance(signed, Targets):
                _check_delegations(signed, "targets" if signed is self._trusted.targets else "delegated")
        return info

    def manifest(self, slot: str, assigned: SlotAssignment, *, hardware: str, floor: int = 0) -> VerifiedManifest:
        """Return the manifest that both repositories sign for this slot; call `refresh` first.

        `hardware` is the name of the device's profile, `floor` the lowest release of the slot it still accepts.
        """
        info = self.find(assigned.target)
        if info is None:
            raise ProtocolError(Code.NOT_IN_IMAGE_REPO, f"{assigned.target} is not signed there")
        _compare(assigned, info)
        signed_floor = _check_custom(slot, assigned, info.custom or {}, hardware, floor)
        with translated(self._fetcher):
            path = Path(self._updater.download_target(info, str(self._cache / "target")))
        raw = path.read_bytes()
        manifest = parse_manifest(raw)
        if manifest.model != slot:
            raise ProtocolError(Code.WRONG_SLOT, f"{assigned.target} is of model {manifest.model}, not {slot}")
        return VerifiedManifest(SignedManifest(raw, manifest, assigned.sha256, signed_floor))

    def _check_root(self, root: Root) -> None:
        for name, role in root.roles.items():
            if counts_a_key_twice(role, root.keys):
                raise ProtocolError(Code.KEY_REUSE, f"the role {name} counts one key twice", role="root")
        if all_material(root.keys.values()) & self._foreign_keys:
            raise ProtocolError(Code.KEY_REUSE, "a key is also one of the director's", role="root")


def _check_delegations(signed: Targets, delegator: str) -> None:
    delegations = signed.delegations
    if delegations is None:
        return
    roles = [*(delegations.roles or {}).values(), *filter(None, [delegations.succinct_roles])]
    if any(counts_a_key_twice(role, delegations.keys) for role in roles):
        raise ProtocolError(Code.KEY_REUSE, "a delegation counts one key twice", role=delegator)


def _compare(assigned: SlotAssignment, info: TargetFile) -> None:
    if set(info.hashes) != {"sha256"}:
        raise ProtocolError(Code.METADATA, f"target hashed by {sorted(info.hashes)}; expected sha256", role="delegated")
    if info.length > MANIFEST_BYTES_MAX:
        raise ProtocolError(Code.ENDLESS_DATA, f"manifest of {info.length} bytes", role="target")
    if (info.length, info.hashes["sha256"]) != (assigned.length, assigned.sha256):
        message = f"{assigned.target}: the assignment and the image repository name different bytes"
        raise ProtocolError(Code.DIRECTOR_IMAGE_MISMATCH, message)


def _check_custom(slot: str, assigned: SlotAssignment, custom: dict[str, Any], hardware: str, floor: int) -> int:
    """Check what is signed beside the target; return the floor that it states."""
    if not isinstance(custom, dict):
        raise ProtocolError(Code.MALFORMED, f"{assigned.target} is signed with custom {custom!r:.80}", role="delegated")
    target, release, signed_floor = assigned.target, custom.get("release"), custom.get("floor", 0)
    if custom.get("slot") != slot:
        message = f"{target} is signed for slot {custom.get('slot')!r}, assigned to {slot!r}"
        raise ProtocolError(Code.WRONG_SLOT, message)
    if type(release) is not int or release != assigned.release:
        message = f"{target} is signed as release {release!r}, assigned as {assigned.release}"
        raise ProtocolError(Code.DIRECTOR_IMAGE_MISMATCH, message)
    allowed = custom.get("hw")
    if allowed is not None and (not isinstance(allowed, list) or hardware not in allowed):
        raise ProtocolError(Code.WRONG_HARDWARE, f"{target} is signed for {allowed!r}, this is a {hardware}")
    if type(signed_floor) is not int or signed_floor < 0:
        raise ProtocolError(Code.MALFORMED, f"{target} is signed with floor {signed_floor!r}", role="delegated")
    lowest = max(floor, signed_floor)
    if release < lowest:
        raise ProtocolError(Code.ROLLBACK, f"{target} is release {release}; the floor is {lowest}", role="release")
    return signed_floor
