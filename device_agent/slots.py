"""The model store: immutable model directories named by the sha256 of their manifest.

    models/SHA256/   manifest.json and the artifacts under their manifest names; complete, synced, never changed
    stage/SHA256/    the same being built: NAME.part while an artifact is on its way, NAME~packed.part its packed form,
                     NAME~sealed.part its sealed one
    stage/SHA256.gone  a directory being deleted

A directory reaches `models/` by one rename after everything in it is durable. Nothing is believed for having the
right name: before a model is loaded, `inspect` hashes it again, because storage can change what it was given
(and the engine answers wrongly from damaged weights more often than it fails). Symbolic links are never followed:
a model with one in it is damaged, and one in the stage is deleted.
"""

import hashlib
import shutil
from collections.abc import Iterable, Set
from pathlib import Path

from device_agent.durable import move_directory_durably, sync_directory, write_synced
from device_agent.lifecycle import Found
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import ArtifactEntry, Manifest, parse_manifest

MANIFEST_FILE = "manifest.json"
_GONE = ".gone"


class ModelStore:
    """The directories of one device. Manifests are named by their sha256."""

    def __init__(self, directory: Path, reserve_bytes: int) -> None:
        """Keep at least `reserve_bytes` free on the store's filesystem."""
        self.models = directory / "models"
        self._stage = directory / "stage"
        self._reserve_bytes = reserve_bytes
        for made in (self.models, self._stage):
            made.mkdir(parents=True, exist_ok=True)

    def directory(self, manifest: str) -> Path:
        """Return where a complete model lies, whether it is there or not."""
        return self.models / manifest

    def part(self, manifest: str, artifact: str) -> Path:
        """Return the file to download an artifact into; its directory exists."""
        stage = self._stage / manifest
        part = stage / f"{artifact}.part"
        for path in (stage, part):
            if path.is_symlink():
                path.unlink()
        stage.mkdir(exist_ok=True)
        return part

    def packed_part(self, manifest: str, artifact: str) -> Path:
        """Return the file to download an artifact's packed form into; no artifact's name has a `~` in it."""
        return self.part(manifest, f"{artifact}~packed")

    def wire_part(self, manifest: str, entry: ArtifactEntry) -> Path:
        """Return the file to download into what travels of an artifact: sealed, packed, or the artifact itself."""
        if entry.sealed:
            return self.part(manifest, f"{entry.name}~sealed")
        return self.packed_part(manifest, entry.name) if entry.packed else self.part(manifest, entry.name)

    def manifest(self, manifest: str) -> Manifest:
        """Return the manifest of a model that `inspect` found intact."""
        return parse_manifest((self.directory(manifest) / MANIFEST_FILE).read_bytes())

    def inspect(self, manifest: str | None) -> Found:
        """Say whether a model is there and every byte of it is as its manifest, and its name, promise."""
        if manifest is None or not (self.directory(manifest).is_dir() or self.directory(manifest).is_symlink()):
            return Found.ABSENT
        try:
            intact = _is_intact(self.directory(manifest), manifest)
        except (OSError, ProtocolError):
            intact = False
        return Found.INTACT if intact else Found.DAMAGED

    def require_space(self, manifest: Manifest, sha256: str) -> None:
        """Refuse with NO_SPACE before the first byte when the model does not fit beside what is kept.

        The model in use and the one to go back to stay on disk during the whole update, so only the bytes that
        are still to be fetched are counted against what is free. Artifacts are opened one after another, so one
        packed or sealed form at most, the largest that is still needed, lies beside them.
        """
        raw = beside = 0
        for entry in manifest.artifacts:
            missing = max(0, entry.length - _bytes_of(self.part(sha256, entry.name)))
            raw += missing
            if entry.travels is not entry and missing:
                here = _bytes_of(self.wire_part(sha256, entry))
                beside = max(beside, entry.wire_bytes - here)
        needed = raw + beside + self._reserve_bytes
        free = shutil.disk_usage(self._stage).free
        if needed > free:
            raise ProtocolError(Code.NO_SPACE, f"needs {needed} bytes with the reserve; {free} are free")

    def publish(self, manifest: Manifest, raw: bytes, sha256: str) -> None:
        """Turn a stage whose artifacts are complete into a model directory, durably.

        HASH_MISMATCH when the bytes on disk are not what was signed; the stage is then gone and may be fetched anew.
        """
        stage = self._stage / sha256
        for entry in manifest.artifacts:
            part = self.part(sha256, entry.name)
            if part.exists():
                part.replace(stage / entry.name)
                # Not before: a part file that may not be written could not be resumed.
                (stage / entry.name).chmod(0o444)
        # An interrupted attempt may have left one that its owner cannot open for writing.
        (stage / MANIFEST_FILE).unlink(missing_ok=True)
        write_synced(stage / MANIFEST_FILE, raw, 0o444)
        if not _is_intact(stage, sha256):
            self._delete(stage)
            raise ProtocolError(Code.HASH_MISMATCH, f"the bytes on disk are not those of {sha256}", role="artifact")
        if self.directory(sha256).exists():
            self._delete(self.directory(sha256))
        move_directory_durably(stage, self.directory(sha256))

    def discard(self, manifest: str) -> None:
        """Delete a model and its stage; a crash in between leaves rubbish, never half a model."""
        for directory in (self.directory(manifest), self._stage / manifest):
            self._delete(directory)

    def collect(self, keep: Set[str]) -> None:
        """Delete every model and stage that is not to be kept."""
        for directory in (*_entries(self.models), *_entries(self._stage)):
            if directory.name not in keep:
                self._delete(directory)

    def intact_manifests(self) -> Iterable[tuple[str, Manifest]]:
        """Yield every model that is wholly there, for the day the journal is lost."""
        for directory in _entries(self.models):
            if self.inspect(directory.name) is Found.INTACT:
                yield directory.name, self.manifest(directory.name)

    def _delete(self, directory: Path) -> None:
        if directory.is_symlink():
            directory.unlink()
        if not directory.exists():
            return
        gone = self._stage / (directory.name.removesuffix(_GONE) + _GONE)
        if directory != gone:
            shutil.rmtree(gone, ignore_errors=True)
            directory.rename(gone)
            sync_directory(directory.parent)
        shutil.rmtree(gone, ignore_errors=True)


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_intact(directory: Path, sha256: str) -> bool:
    if directory.is_symlink() or any(path.is_symlink() for path in directory.iterdir()):
        return False
    raw = (directory / MANIFEST_FILE).read_bytes()
    if hashlib.sha256(raw).hexdigest() != sha256:
        return False
    manifest = parse_manifest(raw)
    if {entry.name for entry in manifest.artifacts} | {MANIFEST_FILE} != {path.name for path in directory.iterdir()}:
        return False
    return all(holds(directory / entry.name, entry) for entry in manifest.artifacts)


def holds(path: Path, entry: ArtifactEntry) -> bool:
    """Tell whether a file holds exactly the artifact."""
    return _bytes_of(path) == entry.length and _sha256_of(path) == entry.sha256


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
