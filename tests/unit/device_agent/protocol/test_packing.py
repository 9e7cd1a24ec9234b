import itertools
import lzma
import tracemalloc
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.packing import PIECE_BYTES, unpack
from tests.support.malformed_json import refusal_of
from tests.support.stored_models import xz_stream

CONTENT = bytes(Random(3).choices(range(64), k=2 * PIECE_BYTES + 77))
STREAM = xz_stream(CONTENT)
SHORT = bytes(Random(4).choices(range(16), k=300))
SHORT_STREAM = xz_stream(SHORT)


def cut(stream: bytes, size: int = PIECE_BYTES) -> list[bytes]:
    return [stream[start : start + size] for start in range(0, len(stream), size)]


def refused(pieces: list[bytes], length_max: int = len(SHORT)) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        list(unpack(pieces, length_max=length_max))
    return caught.value


@pytest.mark.parametrize("size", [997, 65_536, PIECE_BYTES, len(STREAM)])
def test_a_stream_gives_back_what_was_packed_however_it_is_cut(size: int) -> None:
    assert b"".join(unpack(cut(STREAM, size), length_max=len(CONTENT))) == CONTENT


def test_single_bytes_and_empty_pieces_are_pieces_too() -> None:
    pieces = [piece for byte in cut(SHORT_STREAM, 1) for piece in (byte, b"")]
    assert b"".join(unpack(pieces, length_max=len(SHORT))) == SHORT


def test_nothing_at_all_can_be_packed() -> None:
    assert list(unpack([xz_stream(b"")], length_max=0)) == []


def test_a_piece_is_never_larger_than_said_whatever_the_stream_stands_for() -> None:
    lengths = [len(piece) for piece in unpack([xz_stream(bytes(5 * PIECE_BYTES + 1))], length_max=2**40)]
    assert sum(lengths) == 5 * PIECE_BYTES + 1
    assert max(lengths) == PIECE_BYTES


@pytest.mark.parametrize("length_max", [0, 1, 1000, PIECE_BYTES, 10 * PIECE_BYTES - 1])
def test_a_stream_that_stands_for_too_much_is_refused_and_nothing_beyond_the_length_is_given(length_max: int) -> None:
    given = bytearray()

    def take() -> None:
        for piece in unpack(cut(xz_stream(bytes(10 * PIECE_BYTES)), 500), length_max=length_max):
            given.extend(piece)

    assert refusal_of(take) is Code.ENDLESS_DATA
    assert len(given) <= length_max


def test_a_stream_that_never_ends_is_not_read_to_its_end() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        packer = lzma.LZMACompressor(format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, preset=0)
        for _ in itertools.count():
            read += 1
            yield packer.compress(bytes(PIECE_BYTES))

    assert refusal_of(lambda: list(unpack(endless(), length_max=PIECE_BYTES))) is Code.ENDLESS_DATA
    assert read < 10_000


@pytest.mark.parametrize("size", range(len(SHORT_STREAM)))
def test_a_stream_that_was_cut_short_anywhere_is_refused(size: int) -> None:
    error = refused([SHORT_STREAM[:size]])
    assert error.code is Code.MALFORMED
    assert "ends early" in str(error)


@pytest.mark.parametrize("behind", [b"\0", b"garbage", SHORT_STREAM], ids=["padding", "garbage", "stream"])
def test_what_follows_a_stream_is_refused(behind: bytes) -> None:
    for pieces in ([SHORT_STREAM + behind], [SHORT_STREAM, behind]):
        error = refused(pieces, 10 * len(SHORT))
        assert error.code is Code.MALFORMED
        assert "is followed by other bytes" in str(error)


@pytest.mark.parametrize("stream", [b"no such thing", SHORT, lzma.compress(SHORT, format=lzma.FORMAT_ALONE)])
def test_what_is_no_xz_stream_is_refused(stream: bytes) -> None:
    error = refused([stream])
    assert error.code is Code.MALFORMED
    assert "cannot be unpacked" in str(error)


def test_a_stream_that_wants_a_large_dictionary_is_refused() -> None:
    error = refused([xz_stream(SHORT, dictionary_bytes=16 * 1024 * 1024)])
    assert error.code is Code.MALFORMED
    assert "Memory usage limit" in str(error)


@given(st.integers(0, len(SHORT_STREAM) - 1), st.integers(1, 255))
def test_a_damaged_stream_is_read_or_refused_and_never_too_long(place: int, change: int) -> None:
    stream = bytearray(SHORT_STREAM)
    stream[place] ^= change
    given: list[bytes] = []
    code = refusal_of(lambda: given.extend(unpack([bytes(stream)], length_max=len(SHORT))))
    assert code in {None, Code.MALFORMED, Code.ENDLESS_DATA}
    assert sum(map(len, given)) <= len(SHORT)


def test_memory_is_bounded_whatever_the_length() -> None:
    pieces = cut(xz_stream(bytes(64 * 1024 * 1024)), 1000)
    tracemalloc.start()
    try:
        length = sum(map(len, unpack(pieces, length_max=2**40)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert length == 64 * 1024 * 1024
    # The decoder's dictionary is in the figure, so it cannot be near zero either.
    assert 1024 * 1024 < peak < 4 * 1024 * 1024
