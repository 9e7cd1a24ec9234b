import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.trust.signer.frames import FRAME_BYTES_MAX, MalformedFrame, receive_frame, send_frame

Pair = tuple[socket.socket, socket.socket]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def received(sent: bytes, *, frame_s: float = 5.0) -> Any:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(sent)
        left.shutdown(socket.SHUT_WR)
        return receive_frame(right, 5.0, frame_s)


def framed(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


@given(VALUES.filter(lambda value: "$b" not in repr(value)))
def test_every_value_arrives_as_it_was_sent(value: Any) -> None:
    left, right = socket.socketpair()
    with left, right:
        send_frame(left, value)
        assert receive_frame(right, 5.0, 5.0) == value


@given(st.binary(max_size=200))
def test_rubbish_is_malformed_whatever_it_is(content: bytes) -> None:
    try:
        received(content)
    except MalformedFrame:
        return


@given(st.binary(max_size=200))
def test_a_frame_of_rubbish_is_malformed_or_a_value(content: bytes) -> None:
    try:
        received(framed(content))
    except MalformedFrame:
        return


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"$b":7}', b'{"$b":"!"}', b"1" * 5000, b"\xff", b'"\\ud800"}'])
def test_json_that_no_reader_should_meet_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedFrame):
        received(framed(content))


def test_a_length_beyond_the_bound_is_refused_before_anything_is_read() -> None:
    with pytest.raises(MalformedFrame, match="at most"):
        received(struct.pack(">I", FRAME_BYTES_MAX + 1))


def test_a_value_beyond_the_bound_is_not_sent(pair: Pair) -> None:
    with pytest.raises(MalformedFrame, match="at most"):
        send_frame(pair[0], b"x" * FRAME_BYTES_MAX)


def test_an_orderly_end_is_none_and_a_torn_frame_is_malformed() -> None:
    assert received(b"") is None
    with pytest.raises(MalformedFrame, match="ends after"):
        received(framed(b'{"verb":1}')[:-1])


def test_a_frame_that_never_ends_is_given_up(pair: Pair) -> None:
    pair[0].sendall(framed(b"{}")[:-1])
    with pytest.raises(TimeoutError):
        receive_frame(pair[1], 5.0, 0.05)


def test_silence_is_given_up_after_the_idle_time(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        receive_frame(pair[1], 0.05, 5.0)
