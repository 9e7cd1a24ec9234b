"""The packing job: the smallest of a few xz streams for an artifact, proven with the device's own decoder.

    python -m controller.artifacts.packing SOURCE TARGET

Started by `jobs.pack` in a confined child. The same source gives the same stream on the same machine; another release
of the xz library may give another one, so the stream is kept and named by its sha256 and never made again on the way.
"""

import hashlib
import lzma
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from controller.artifacts.confinement import answer
from device_agent.protocol.packing import DICTIONARY_BYTES, PIECE_BYTES, unpack

GAIN_MIN = 0.03
"""Below this share a packed form is not worth a device's time and the second copy on the controller's disk."""
SETTINGS = ((3, 0, 2), (0, 2, 2), (1, 2, 2), (0, 0, 0))
"""What is tried, as lc, lp and pb of LZMA2: its default; two that tell the bytes of a 4-byte float apart (the second
suits weights with many zeros better); and one that sees no order in bytes, for 8-bit weights."""
WHOLE_BYTES_MAX = 1024 * 1024
"""Larger artifacts are encoded once, with the setting that suits a sample of them best."""
SAMPLE_BYTES = 512 * 1024
SAMPLE_PIECES = 16
SOURCE_BYTES_MAX = 384 * 1024 * 1024
"""Larger artifacts travel as they are: the chunk hashes of both forms would not fit into a manifest."""


def pack_file(source: Path, target: Path) -> int | None:
    """Write the packed form of `source` to `target` and return its length in bytes.

    None, and no target, where it is not at least GAIN_MIN smaller or the source is longer than SOURCE_BYTES_MAX.
    """
    source_bytes = source.stat().st_size
    if source_bytes > SOURCE_BYTES_MAX:
        return None
    setting = _best_setting(source, source_bytes)
    with target.open("wb") as packed:
        length = sum(packed.write(piece) for piece in _encode(_pieces(source), setting))
    if length > source_bytes * (1 - GAIN_MIN):
        target.unlink()
        return None
    if _sha256_of(unpack(_pieces(target), length_max=source_bytes)) != _sha256_of(_pieces(source)):
        raise RuntimeError(f"the packed form does not give the artifact back (settings {setting})")
    return length


def _best_setting(source: Path, source_bytes: int) -> tuple[int, int, int]:
    sample = source.read_bytes() if source_bytes <= WHOLE_BYTES_MAX else _sample(source, source_bytes)
    return min(SETTINGS, key=lambda setting: sum(map(len, _encode([sample], setting))))


def _sample(source: Path, source_bytes: int) -> bytes:
    """Return pieces from all over the file, each at a multiple of 4 so that floats keep their place."""
    piece_bytes = SAMPLE_BYTES // SAMPLE_PIECES
    pieces = []
    with source.open("rb") as file:
        for number in range(SAMPLE_PIECES):
            file.seek((source_bytes - piece_bytes) * number // (SAMPLE_PIECES - 1) // 4 * 4)
            pieces.append(file.read(piece_bytes))
    return b"".join(pieces)


def _encode(pieces: Iterable[bytes], setting: tuple[int, int, int]) -> Iterator[bytes]:
    """Yield an xz stream. It carries no check of its own: what it gives is checked against the signed sha256."""
    lc, lp, pb = setting
    strongest = 9 | lzma.PRESET_EXTREME
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": strongest, "dict_size": DICTIONARY_BYTES, "lc": lc, "lp": lp, "pb": pb}
    encoder = lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=[lzma2])
    for piece in pieces:
        yield encoder.compress(piece)
    yield encoder.flush()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")


def _sha256_of(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def main(arguments: list[str]) -> dict[str, Any]:
    """Pack the file named on the command line."""
    source, target = map(Path, arguments)
    length = pack_file(source, target)
    return {"packed": False} if length is None else {"packed": True, "length": length}


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
