"""Image repositories of many versions for the benchmark `trust`: ours, and one of plain python-tuf for comparison.

Both carry the same targets with the same words beside them, and both can publish one more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp

from controller.trust.ceremonies import single_operator
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.image_roles import manifest_target
from controller.trust.signer.verbs import LocalSigner, open_local_signer
from tests.support.manifests import a_manifest

FAMILIES = 50
"""Models among which the versions are spread."""


def manifests(count: int, first: int = 0) -> Iterator[bytes]:
    """Yield manifests of different versions."""
    for number in range(first, first + count):
        yield a_manifest(f"model-{number % FAMILIES}", 1 + number // FAMILIES).to_bytes()


def target_of(content: bytes) -> str:
    """Return the path under which a manifest is signed."""
    path: str = manifest_target(content).path
    return path


def _write(path: Path, content: bytes) -> None:
    # As it is served, without the flush: a benchmark of devices does not wait for 10,000 disk writes.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@dataclass
class Ours:
    """The controller's own repository, its signer, and the director's root."""

    folder: Path
    signer: LocalSigner
    images: ImageRepository

    @property
    def root(self) -> bytes:
        """The root that devices are enrolled with."""
        return self.images.roots.first_bytes()

    def publish(self, contents: Iterator[bytes]) -> None:
        """Sign more versions."""
        self.images.publish(contents, datetime.now(UTC))


def ours(folder: Path, count: int) -> Ours:
    """Make a repository of so many versions in `folder`, with keys beside it."""
    tuf_dir = folder / "tuf"
    signer = open_local_signer(folder / "signer", tuf_dir)
    single_operator.ensure(tuf_dir, folder / "offline", signer, datetime.now(UTC))
    made = Ours(tuf_dir, signer, ImageRepository(tuf_dir, signer, _write))
    made.publish(manifests(count))
    return made


class Plain:
    """python-tuf's own way at its simplest: every target in the top-level role, one key for each role."""

    def __init__(self, folder: Path, count: int) -> None:
        """Make a repository of so many versions in `folder`."""
        self.folder = folder
        self._keys: dict[str, Signer] = {
            role: CryptoSigner.generate_ed25519() for role in ("root", "targets", "snapshot", "timestamp")
        }
        self._expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        self._targets = Targets(expires=self._expires)
        self._version = 0
        root = Root(expires=self._expires)
        for role, key in self._keys.items():
            root.add_key(key.public_key, role)
        self.root = self._signed(root, "root")
        _write(folder / "metadata" / "1.root.json", self.root)
        self.publish(manifests(count))

    def publish(self, contents: Iterator[bytes]) -> None:
        """Sign more versions: targets, snapshot, timestamp."""
        self._version += 1
        for content in contents:
            target = manifest_target(content)
            self._targets.targets[target.path] = target
        self._targets.version = version = self._version
        self._put(f"{version}.targets.json", self._targets, "targets")
        snapshot = Snapshot(version=version, expires=self._expires, meta={"targets.json": MetaFile(version)})
        self._put(f"{version}.snapshot.json", snapshot, "snapshot")
        timestamp = Timestamp(version=version, expires=self._expires, snapshot_meta=MetaFile(version))
        self._put("timestamp.json", timestamp, "timestamp")

    def _put(self, name: str, signed: Signed, role: str) -> None:
        _write(self.folder / "metadata" / name, self._signed(signed, role))

    def _signed(self, signed: Signed, role: str) -> bytes:
        document = Metadata[Any](signed)
        document.sign(self._keys[role])
        return document.to_bytes()
