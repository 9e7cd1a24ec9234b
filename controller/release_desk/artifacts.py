"""The artifacts of a manifest, downloaded and hashed in both of their forms, laid out as a device would hold them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from controller.release_desk.report import DeskCode, DeskRefusal
from controller.release_desk.source import PIECE_BYTES, Source, SourceError
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.manifest import CHUNK_BYTES, ArtifactEntry, Manifest, Packed, Sealed
from device_agent.protocol.packing import unpack


class Downloads:
    """Files by their sha256 in one folder, each downloaded once and never believed before it was hashed."""

    def __init__(self, source: Source, folder: Path) -> None:
        """Take where files come from and where they are put; the folder exists."""
        self._source = source
        self._folder = folder

    def get(self, sha256: str, *, length: int) -> Path:
        """Return the file with this digest and at most this length. DeskRefusal with ARTIFACT."""
        path = self._folder / sha256
        if not path.exists():
            coming = path.with_suffix(".part")
            try:
                self._source.download(f"/artifacts/sha256/{sha256}", coming, length=length)
            except SourceError as error:
                raise DeskRefusal(DeskCode.ARTIFACT, str(error)) from error
            found = _sha256_of(_pieces(coming))
            if found != sha256:
                raise DeskRefusal(DeskCode.ARTIFACT, f"the artifact {sha256} was sent with sha256 {found}")
            coming.replace(path)
        return path

    def of_manifest(self, manifest: Manifest) -> dict[str, Path]:
        """Return a manifest's artifacts by name, after both forms of each were compared with it."""
        return {entry.name: self._of_entry(entry) for entry in manifest.artifacts}

    def _of_entry(self, entry: ArtifactEntry) -> Path:
        path = self.get(entry.sha256, length=entry.length)
        _refuse_other(entry.name, path, entry)
        if entry.packed:
            packed = self.get(entry.packed.sha256, length=entry.packed.length)
            _refuse_other(f"the packed {entry.name}", packed, entry.packed)
            try:
                found = _sha256_of(unpack(_pieces(packed), length_max=entry.length))
            except ProtocolError as error:
                raise DeskRefusal(DeskCode.ARTIFACT, f"{entry.name}: {error}") from error
            if found != entry.sha256:
                raise DeskRefusal(
                    DeskCode.ARTIFACT, f"the packed {entry.name} unpacks to sha256 {found}, not {entry.sha256}"
                )
        if entry.sealed:
            # What is in it is for devices to find out, who compare that with the same manifest.
            sealed = self.get(entry.sealed.sha256, length=entry.sealed.length)
            _refuse_other(f"the sealed {entry.name}", sealed, entry.sealed)
        return path


def _refuse_other(what: str, path: Path, entry: ArtifactEntry | Packed | Sealed) -> None:
    length = path.stat().st_size
    if length != entry.length:
        raise DeskRefusal(DeskCode.ARTIFACT, f"{what} has {length} bytes; the manifest says {entry.length}")
    with path.open("rb") as file:
        chunks = tuple(hashlib.sha256(chunk).hexdigest() for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
    if chunks != entry.chunks:
        # The whole would still be right, and no device could ever finish the download.
        raise DeskRefusal(DeskCode.ARTIFACT, f"the manifest's chunk hashes of {what} are not those of its bytes")


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")


def _sha256_of(pieces: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
