"""One artifact's way into the stage: fetched as it is, or fetched packed and unpacked.

The order is what makes it survive a loss of power. The packed form goes only when the artifact is durable, name and
bytes; until then an interrupted unpacking begins again from the packed form, which costs no download.
"""

import hashlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

from device_agent.downloader import Downloader
from device_agent.durable import sync_directory
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import ArtifactEntry
from device_agent.protocol.packing import PIECE_BYTES, unpack
from device_agent.slots import ModelStore, holds


def fetch_artifact(entry: ArtifactEntry, manifest: str, downloader: Downloader, store: ModelStore) -> Generator[float]:
    """Complete the artifact's part file; yield how long to wait before each next step.

    Raises as `Downloader.fetch` does. A packed form whose chunks are as signed and which still does not give the
    signed artifact raises ENDLESS_DATA, MALFORMED or HASH_MISMATCH at once: fetching it again would bring the same.
    """
    part = store.part(manifest, entry.name)
    if entry.packed is None:
        yield from downloader.fetch(entry, part)
        return
    packed_part = store.packed_part(manifest, entry.name)
    if not holds(part, entry):
        yield from downloader.fetch(entry.packed, packed_part)
        yield from _unpack(entry, packed_part, part)
    packed_part.unlink(missing_ok=True)


def _unpack(entry: ArtifactEntry, packed_part: Path, part: Path) -> Generator[float]:
    """Write the artifact durably from its complete packed form; wrong bytes are not kept."""
    try:
        with packed_part.open("rb") as packed, part.open("wb") as file:
            for piece in _unpacked(entry, packed):
                file.write(piece)
                yield 0.0
            file.flush()
            os.fsync(file.fileno())
    except ProtocolError:
        part.unlink(missing_ok=True)
        raise
    sync_directory(part.parent)


def _unpacked(entry: ArtifactEntry, packed: BinaryIO) -> Iterator[bytes]:
    """Yield the artifact piece by piece; HASH_MISMATCH at its end where that was not the signed one."""
    digest = hashlib.sha256()
    for piece in unpack(iter(lambda: packed.read(PIECE_BYTES), b""), length_max=entry.length):
        digest.update(piece)
        yield piece
    if digest.hexdigest() != entry.sha256:
        raise ProtocolError(Code.HASH_MISMATCH, f"what {entry.name} was unpacked to", role="artifact")
