"""One artifact's way into the stage: fetched as it is, or fetched packed, sealed, or both, and opened.

The order is what makes it survive a loss of power. What travelled goes only when the artifact is durable, name and
bytes; until then an interrupted opening begins again from it, which costs no download. A sealed packed form is opened
in one pass: every chunk is known to be what was sealed before a byte of it is unpacked.
"""

import hashlib
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from device_agent.downloader import Downloader
from device_agent.durable import sync_directory
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import ArtifactEntry
from device_agent.protocol.packing import PIECE_BYTES, unpack
from device_agent.protocol.sealing import unseal
from device_agent.slots import ModelStore, holds


def fetch_artifact(
    entry: ArtifactEntry,
    manifest: str,
    downloader: Downloader,
    store: ModelStore,
    content_key: bytes | None = None,
) -> Generator[float]:
    """Complete the artifact's part file; yield how long to wait before each next step.

    Raises as `Downloader.fetch` does. What travelled with chunks as signed and still does not give the signed artifact
    raises DECRYPT, ENDLESS_DATA, MALFORMED or HASH_MISMATCH at once: fetching it again would bring the same. A sealed
    artifact needs the content key.
    """
    part, wire_part = store.part(manifest, entry.name), store.wire_part(manifest, entry)
    if entry.travels is entry:
        yield from downloader.fetch(entry, part)
        return
    if not holds(part, entry):
        yield from downloader.fetch(entry.travels, wire_part)
        yield from _open(entry, wire_part, part, content_key)
    wire_part.unlink(missing_ok=True)


def _open(entry: ArtifactEntry, wire_part: Path, part: Path, content_key: bytes | None) -> Generator[float]:
    """Write the artifact durably from what travelled, which is complete; wrong bytes are not kept."""
    try:
        with wire_part.open("rb") as wire, part.open("wb") as file:
            for piece in _opened(entry, wire, content_key):
                file.write(piece)
                yield 0.0
            file.flush()
            os.fsync(file.fileno())
    except ProtocolError:
        part.unlink(missing_ok=True)
        raise
    sync_directory(part.parent)


def _opened(entry: ArtifactEntry, wire: BinaryIO, content_key: bytes | None) -> Iterator[bytes]:
    """Yield the artifact piece by piece; HASH_MISMATCH at its end where that was not the signed one."""
    pieces: Iterable[bytes] = iter(lambda: wire.read(PIECE_BYTES), b"")
    if entry.sealed:
        if content_key is None:
            raise ProtocolError(Code.UNWRAP, f"{entry.name} is sealed and there is no key to it", role="assignment")
        clear = entry.clear
        pieces = _checked(unseal(pieces, key=content_key, sha256=clear.sha256), clear.sha256, "unsealed", entry)
    if entry.packed:
        pieces = _checked(unpack(pieces, length_max=entry.length), entry.sha256, "unpacked", entry)
    yield from pieces


def _checked(pieces: Iterator[bytes], sha256: str, how: str, entry: ArtifactEntry) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != sha256:
        raise ProtocolError(Code.HASH_MISMATCH, f"what {entry.name} was {how} to", role="artifact")
