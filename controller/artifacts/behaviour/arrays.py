"""Reading an `.npz` file that nobody vouches for. Nothing is unpickled, and nothing is allocated on its word.

Codes, after `evaluation_` or `calibration_`: `format` for a file that is none, is damaged, or holds anything but
plain arrays of the size that it says.
"""

import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import IO

import numpy as np

from controller.artifacts.graph.sessions import Array, Tensors
from controller.domain.errors import InvalidInput

BYTES_MAX = 2 * 1024**3
"""All arrays of a file, unpacked."""
ARRAYS_MAX = 1024
_HEADER_BYTES_MAX = 16 * 1024
"""Longer than the header of any plain array."""
_TOLD_MAX = 200
"""Characters of a reason: it may quote the file."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How numpy packs."""
_DAMAGED = (OSError, EOFError, ValueError, TypeError, RuntimeError, TokenError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Origin:
    """What a file of arrays is to the version, and where the request names it."""

    word: str
    field: str
    example: str

    def refused(self, what: str, detail: str) -> InvalidInput:
        """Return the refusal of the file, with a code such as `evaluation_shape`."""
        return InvalidInput(f"{self.word} data: {detail}", code=f"{self.word}_{what}", field=self.field)


EVALUATION = Origin("evaluation", "/evaluation_sha256", "inputs=..., labels=...")
CALIBRATION = Origin("calibration", "/calibration_sha256", "inputs=...")


def read_arrays(path: Path, origin: Origin) -> Tensors:
    """Return the file's arrays by name; InvalidInput when it is no `.npz` of plain arrays or unpacks to too much."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
            _refuse_excess(members, origin)
            return {member.filename.removesuffix(".npy"): _read(packed, member) for member in members}
    except _DAMAGED as error:
        raise origin.refused(
            "format",
            f"the file is not an .npz of plain arrays ({str(error)[:_TOLD_MAX]}); write it with "
            f"numpy.savez_compressed(path, {origin.example})",
        ) from error


def _refuse_excess(members: list[zipfile.ZipInfo], origin: Origin) -> None:
    # What a member unpacks to is bounded by the size that the directory gives it: reading stops there.
    unpacked = sum(member.file_size for member in members)
    if unpacked > BYTES_MAX or len(members) > ARRAYS_MAX:
        told = f"the file unpacks to {len(members)} arrays of {unpacked} bytes in all"
        raise origin.refused("format", f"{told}; at most {ARRAYS_MAX} arrays of {BYTES_MAX} bytes are read")


def _read(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in _METHODS:
        raise ValueError(f"{member.filename!r} is packed in a way that numpy does not use")
    with packed.open(member) as stream:
        header = io.BytesIO(stream.read(_HEADER_BYTES_MAX))
    declared = _declared_bytes(header, member.filename)
    held = member.file_size - header.tell()
    if declared != held:
        told = f"{declared} bytes" if declared <= BYTES_MAX else f"more than {BYTES_MAX} bytes"
        raise ValueError(f"{member.filename!r} declares an array of {told} and holds {held}")
    with packed.open(member) as stream:
        return _array(stream)


def _declared_bytes(header: IO[bytes], name: str) -> int:
    """Return how large the array says it is, and leave the header behind."""
    version = np.lib.format.read_magic(header)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"{name!r} has the unknown format {version}")
    shape, _, dtype = readers[version](header)
    if dtype.kind not in "biuf" or any(size < 0 for size in shape):
        raise ValueError(f"{name!r} holds {dtype} of shape {list(shape)}, which is no array of numbers")
    return math.prod(shape) * dtype.itemsize


def _array(stream: IO[bytes]) -> Array:
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array
