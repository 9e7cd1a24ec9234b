"""Reading transition tables that are written out as text, and walking those of the source."""

from collections.abc import Mapping
from typing import TypeVar

State = TypeVar("State")
Event = TypeVar("Event")


def read_grid(text: str) -> dict[tuple[str, str], str | None]:
    """Read a grid with events as columns, states as rows, and the next state or a dash in each cell."""
    header, *rows = (line.split() for line in text.strip().splitlines())
    return {
        (state, event): None if cell == "-" else cell
        for state, *cells in rows
        for event, cell in zip(header, cells, strict=True)
    }


def reachable(transitions: Mapping[State, Mapping[Event, State]], start: State) -> set[State]:
    """Return the states that some sequence of events leads to, the start included."""
    seen: set[State] = set()
    waiting = [start]
    while waiting:
        state = waiting.pop()
        if state not in seen:
            seen.add(state)
            waiting.extend(transitions[state].values())
    return seen
