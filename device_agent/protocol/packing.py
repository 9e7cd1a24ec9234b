"""The packed form of an artifact: one xz stream, unpacked piece by piece within bounds that the sender cannot move.

Packing is for the link alone. A device stores what it unpacked, and believes it for its sha256 and for nothing else;
what this module adds is that a hostile or damaged stream costs neither memory nor disk before it is found out.
"""

import lzma
from collections.abc import Iterable, Iterator

from device_agent.protocol.errors import Code, ProtocolError

DICTIONARY_BYTES = 1024 * 1024
"""The dictionary that packers use: weights hardly repeat over longer distances, and devices have to hold it."""
MEMORY_BYTES = 8 * 1024 * 1024
"""What the decoder may allocate; a stream that asks for more is refused when its header is read."""
PIECE_BYTES = 256 * 1024
"""Largest piece that `unpack` yields, and a good size for the pieces it is given."""


def unpack(pieces: Iterable[bytes], *, length_max: int) -> Iterator[bytes]:
    """Yield the bytes that an xz stream stands for, in pieces of at most PIECE_BYTES, never more than `length_max`.

    Holds one piece of each kind and the decoder's MEMORY_BYTES at most. ENDLESS_DATA where the stream goes on behind
    `length_max` bytes; MALFORMED where it is damaged, ends early, is followed by anything, or needs more memory.
    """
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY_BYTES)
    left = length_max
    for piece in pieces:
        given = piece
        while given or not (decoder.eof or decoder.needs_input):
            unpacked = _decode(decoder, given, left)
            left -= len(unpacked)
            if unpacked:
                yield unpacked
            given = decoder.unused_data
    if not decoder.eof:
        raise _malformed("ends early")


def _decode(decoder: lzma.LZMADecompressor, given: bytes, left: int) -> bytes:
    """Feed the decoder and return what it gives for now: PIECE_BYTES and `left` bytes at most."""
    if decoder.eof:
        raise _malformed("is followed by other bytes")
    try:
        # One byte more than is left shows that a stream goes on, without unpacking where it leads.
        unpacked = decoder.decompress(given, min(PIECE_BYTES, left + 1))
    except lzma.LZMAError as error:
        raise _malformed(f"cannot be unpacked: {error}") from error
    if len(unpacked) > left:
        raise ProtocolError(Code.ENDLESS_DATA, "the packed form goes on behind the signed length", role="artifact")
    return unpacked


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(Code.MALFORMED, f"the packed form {what}", role="artifact")
