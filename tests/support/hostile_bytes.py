"""What parsers are fed that read from the network: valid documents with damage, rubbish, and towers of it.

A parser is a row of a table: how it is called, a document that it accepts, and the errors that are its own. Every
input must end in a value or in one of those errors.
"""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.support.malformed_json import ANY_JSON, damaged

HUGE = st.sampled_from([2**53, 2**63, -(2**64), 10**400, 1e308, -0.0, float("nan"), float("inf"), 5e-324])
DEPTHS = (90, 500, *range(860, 1010, 3), 5000)
"""Around the depth at which Python's reader of JSON gives up: what it just reads, others may not be able to print."""
BYTES_PER_BYTE_MAX = 40
"""An empty list in JSON has three bytes and takes 64 in memory; a parser may not make much more of it."""
SPARE_BYTES = 512 * 1024


@dataclass(frozen=True)
class Parser:
    """A parser of bytes from the network."""

    read: Callable[[bytes], object]
    valid: bytes
    errors: tuple[type[Exception], ...]
    """What it may raise; none where an expected "no" is a value."""
    bytes_max: int = 256 * 1024
    """No caller gives it more."""

    def try_to_read(self, raw: bytes) -> object:
        """Return what it returns, or the error of its own that it raised; anything else goes through."""
        try:
            return self.read(raw)
        except self.errors as error:
            return error


@st.composite
def mangled(draw: st.DrawFn, valid: bytes) -> bytes:
    """Return a document with damage: another value somewhere, other bytes somewhere, cut, doubled, or no document."""
    how = draw(st.sampled_from(["value", "value", "huge", "twice", "flip", "cut", "insert", "rubbish"]))
    if how == "rubbish":
        return draw(st.binary(max_size=200) | ANY_JSON.map(_json))
    if how in ("value", "huge", "twice"):
        return _damaged_document(draw, valid, how)
    at = draw(st.integers(0, max(len(valid) - 1, 0)))
    if how == "cut":
        return valid[:at]
    if how == "insert":
        return valid[:at] + draw(st.binary(min_size=1, max_size=8)) + valid[at:]
    return valid[:at] + bytes([draw(st.integers(0, 255))]) + valid[at + 1 :]


def _damaged_document(draw: st.DrawFn, valid: bytes, how: str) -> bytes:
    try:
        document = json.loads(valid)
    except ValueError:
        return valid[::-1]
    if how == "value":
        return _json(draw(damaged(document)))
    if how == "huge":
        return _json(_with_number(document, draw(st.integers(0, 50)), draw(HUGE)))
    # One name twice: readers differ in which of the two they take.
    return b'{"schema": 7, ' + valid.lstrip()[1:] if isinstance(document, dict) else valid + valid


def _with_number(document: Any, which: int, number: Any) -> Any:
    places = list(_leaves(document))
    if not places:
        return number
    holder, key = places[which % len(places)]
    holder[key] = number
    return document


def _leaves(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, inner in entries:
        if isinstance(inner, dict | list):
            yield from _leaves(inner)
        else:
            yield value, key


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def towers(valid: bytes, depth: int) -> Iterator[bytes]:
    """Yield documents that are nested so deep: alone, and in the place of each field of a valid one."""
    yield from (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth)
    tower = b"[" * depth + b"]" * depth
    for raw in _with_each_field(valid, "TOWER"):
        yield raw.replace(b'"TOWER"', tower)


def bulks(valid: bytes, size: int) -> Iterator[bytes]:
    """Yield documents of about so many bytes: much of one kind, alone and in the place of each field."""
    for bulk in (b"[" + b"[]," * (size // 3) + b"0]", b"[" + b"0," * (size // 2) + b"0]", b'"' + b"a" * size + b'"'):
        yield bulk
        for raw in _with_each_field(valid, "BULK"):
            yield raw.replace(b'"BULK"', bulk)


def _with_each_field(valid: bytes, mark: str) -> Iterator[bytes]:
    try:
        document = json.loads(valid)
    except ValueError:
        return
    for name in document if isinstance(document, dict) else ():
        yield _json({**document, name: mark})
        if isinstance(document[name], dict):
            for inner in document[name]:
                yield _json({**document, name: {**document[name], inner: mark}})


def greed_of(parser: Parser, raw: bytes) -> float:
    """Return how many times its input's size a parser has allocated at its peak, some spare kilobytes apart."""
    tracemalloc.start()
    try:
        parser.try_to_read(raw)
        return max(0, tracemalloc.get_traced_memory()[1] - SPARE_BYTES) / len(raw)
    finally:
        tracemalloc.stop()
