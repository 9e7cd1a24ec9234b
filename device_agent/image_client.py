"""The image repository as a device sees it: python-tuf's client, with what it lacks.

python-tuf verifies the repository. Added here, each for a reason that was reproduced against its release 7.0.1:

* every document is fetched with a total deadline and a slowest rate (its own fetcher bounds only silence);
* trust starts from the enrolled root at every start (its cached root.json is not a trust anchor);
* time comes from the device clock with its floor (it reads the system clock);
* the highest versions seen are compared with marks that the caller keeps durably, because its cache is not synced
  and a file there that does not parse is silently ignored, and rollback protection with it;
* its errors become codes with the role that was at fault.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NewType

from tuf.api import exceptions
from tuf.api.metadata import Root, TargetFile
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from device_agent.journal import RoleMark
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import parse_utc
from device_agent.protocol.manifest import MANIFEST_BYTES_MAX, Manifest, parse_manifest
from device_agent.transport import QUICK, Transport, retry_after_s

_FILE_BYTES_MAX = 512 * 1024
_CONFIG = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=8,
    root_max_length=64 * 1024,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=256 * 1024,
    targets_max_length=256 * 1024,
)
_TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True)
class SignedManifest:
    """A manifest with the exact bytes that were signed."""

    raw: bytes
    manifest: Manifest
    sha256: str


VerifiedManifest = NewType("VerifiedManifest", SignedManifest)
"""A manifest that the image repository signs and the assignment names, by the same path, length and hash."""


class OverloadedError(ProtocolError):
    """The repository asks to come back later."""

    def __init__(self, message: str, seconds: float | None) -> None:
        """`seconds` is what it asked for, if it did."""
        super().__init__(Code.HTTP, message)
        self.seconds = seconds


class _BoundedFetcher(FetcherInterface):
    """Fetches through the shared transport and remembers the last address, which tells the role of an error."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.last_url = ""
        self.failure: ProtocolError | None = None

    def begin(self) -> None:
        """Forget what failed before."""
        self.failure = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.last_url = url
        try:
            answer = self._transport.call("GET", url, bytes_max=_FILE_BYTES_MAX, pace=QUICK)
        except ProtocolError as error:
            self.failure = error
            raise exceptions.DownloadError(str(error)) from error
        if answer.status in {429, 503}:
            self.failure = OverloadedError(f"status {answer.status}", retry_after_s(answer.headers))
        if answer.status != 200:
            raise exceptions.DownloadHTTPError(f"status {answer.status}", answer.status)
        return iter([answer.body])


class ImageRepository:
    """One refreshed view of the repository. Make a new one for every look: it never refreshes twice."""

    def __init__(self, transport: Transport, base_url: str, cache: Path, bootstrap: bytes, now: datetime) -> None:
        """`base_url` holds `metadata/` and `targets/`; `bootstrap` is the enrolled root, `now` the device's time."""
        cache.mkdir(parents=True, exist_ok=True)
        self._cache = cache
        self._fetcher = _BoundedFetcher(transport)
        with _translated(self._fetcher):
            self._updater = Updater(
                str(cache),
                f"{base_url}/metadata/",
                str(cache),
                f"{base_url}/targets/",
                fetcher=self._fetcher,
                config=_CONFIG,
                bootstrap=bootstrap,
            )
        # python-tuf has no public way to set the time; a contract test guards this attribute.
        self._updater._trusted_set.reference_time = now  # noqa: SLF001
        self.issued: datetime | None = None
        """When the timestamp says it was issued; known after `refresh`."""

    def refresh(self, marks: dict[str, RoleMark]) -> dict[str, RoleMark]:
        """Verify the newest metadata against the highest versions seen; return the marks to store before acting."""
        with _translated(self._fetcher):
            self._updater.refresh()
        trusted = self._updater._trusted_set  # noqa: SLF001
        seen = {
            "root": RoleMark("", trusted.root.version),
            "timestamp": RoleMark(_epoch(trusted.root, "timestamp"), trusted.timestamp.version),
            "snapshot": RoleMark(_epoch(trusted.root, "snapshot", "timestamp"), trusted.snapshot.version),
        }
        for role, mark in seen.items():
            before = marks.get(role)
            if before and before.epoch == mark.epoch and mark.version < before.version:
                message = f"version {mark.version} is below {before.version}, seen before"
                raise ProtocolError(Code.ROLLBACK, message, role=role)
        issued = trusted.timestamp.unrecognized_fields.get("x-issued")
        try:
            self.issued = parse_utc(issued) if issued else None
        except (TypeError, ValueError) as error:
            raise ProtocolError(Code.MALFORMED, f"x-issued is {issued!r}", role="timestamp") from error
        return seen

    def manifest(self, slot: str, assigned: SlotAssignment) -> VerifiedManifest:
        """Return the manifest that both repositories sign for this slot; call `refresh` first."""
        with _translated(self._fetcher):
            info = self._updater.get_targetinfo(assigned.target)
        if info is None:
            raise ProtocolError(Code.NOT_IN_IMAGE_REPO, f"{assigned.target} is not signed there")
        _compare(slot, assigned, info)
        with _translated(self._fetcher):
            path = Path(self._updater.download_target(info, str(self._cache / "target")))
        raw = path.read_bytes()
        manifest = parse_manifest(raw)
        if manifest.model != slot:
            raise ProtocolError(Code.DIRECTOR_IMAGE_MISMATCH, f"{assigned.target} is of model {manifest.model}")
        return VerifiedManifest(SignedManifest(raw, manifest, assigned.sha256))


def _compare(slot: str, assigned: SlotAssignment, info: TargetFile) -> None:
    if set(info.hashes) != {"sha256"}:
        raise ProtocolError(Code.METADATA, f"target hashed by {sorted(info.hashes)}; expected sha256", role="delegated")
    if info.length > MANIFEST_BYTES_MAX:
        raise ProtocolError(Code.ENDLESS_DATA, f"manifest of {info.length} bytes", role="manifest")
    if (info.length, info.hashes["sha256"]) != (assigned.length, assigned.sha256):
        message = f"{assigned.target}: the assignment and the image repository name different bytes"
        raise ProtocolError(Code.DIRECTOR_IMAGE_MISMATCH, message)
    signed_slot = (info.custom or {}).get("slot")
    if signed_slot != slot:
        message = f"{assigned.target} is signed for slot {signed_slot!r}, assigned to {slot!r}"
        raise ProtocolError(Code.DIRECTOR_IMAGE_MISMATCH, message)


def _epoch(root: Root, *roles: str) -> str:
    keys = [",".join(sorted(root.roles[role].keyids)) for role in roles]
    return hashlib.sha256(";".join(keys).encode()).hexdigest()[:16]


_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (exceptions.UnsignedMetadataError, Code.SIGNATURE),
    (exceptions.BadVersionNumberError, Code.ROLLBACK),
    (exceptions.ExpiredMetadataError, Code.EXPIRED),
    (exceptions.LengthOrHashMismatchError, Code.HASH_MISMATCH),
    (DeserializationError, Code.MALFORMED),
    (exceptions.RepositoryError, Code.METADATA),
    (exceptions.DownloadLengthMismatchError, Code.ENDLESS_DATA),
    (exceptions.SlowRetrievalError, Code.SLOW_RETRIEVAL),
    (exceptions.DownloadHTTPError, Code.HTTP),
    (exceptions.DownloadError, Code.NETWORK),
)
"""python-tuf's errors, the more special before the more general."""


@contextmanager
def _translated(fetcher: _BoundedFetcher) -> Iterator[None]:
    """Raise python-tuf's errors as ProtocolError with code and role."""
    fetcher.begin()
    try:
        yield
    except (exceptions.DownloadError, exceptions.RepositoryError) as error:
        role = _role(fetcher.last_url, str(error))
        if fetcher.failure and isinstance(error, exceptions.DownloadError):
            fetcher.failure.role = role
            raise fetcher.failure from error
        code = next(code for known, code in _CODES if isinstance(error, known))
        raise ProtocolError(code, str(error), role=role) from error


def _role(url: str, message: str) -> str:
    # python-tuf checks the root's expiry only while it loads the timestamp.
    if "Final root.json" in message:
        return "root"
    name = url.rsplit("/", 1)[-1].removesuffix(".json").rsplit(".", 1)[-1]
    if name == "manifest" or name in _TOP_LEVEL:
        return name
    return "delegated"
