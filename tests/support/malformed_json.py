"""Damage for parsers: a valid JSON value with one place in it changed, removed or added."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from device_agent.protocol.errors import Code, ProtocolError

_TEXT = st.text(st.sampled_from("aZ09._-/:\\\"' \0\né\ud800"), max_size=20)
ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)


def refusal_of(read: Callable[[], object]) -> Code | None:
    """Return the code that `read` refuses with, None where it accepts; any other error goes through."""
    try:
        read()
    except ProtocolError as error:
        return error.code
    return None


@st.composite
def damaged(draw: st.DrawFn, valid: Any) -> Any:
    """Return a copy of `valid` in which one to three places hold something else or are gone."""
    value = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(list(_places(value)) or [([None], 0)]))
        if draw(st.booleans()):
            holder[key] = draw(ANY_JSON)
        else:
            del holder[key]
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield value, key
        yield from _places(inner)
