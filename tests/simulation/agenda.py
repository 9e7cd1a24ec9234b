"""Simulated time: what happens next, and when. Time moves only from one entry to the next."""

import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import NamedTuple


class Entry(NamedTuple):
    """Something that will happen."""

    at: datetime
    order: int
    """Entries of the same moment happen in the order in which they were made."""
    what: str
    """Who does what, for the trace."""
    action: Callable[[], None]


class Agenda:
    """A clock and everything that is due after it."""

    def __init__(self, start: datetime) -> None:
        """Begin at a moment, with nothing to do."""
        self.now = start
        self._entries: list[Entry] = []
        self._numbers = count()

    def after(self, delay_s: float, what: str, action: Callable[[], None]) -> None:
        """Let something happen that many seconds from now."""
        at = self.now + timedelta(seconds=delay_s)
        heapq.heappush(self._entries, Entry(at, next(self._numbers), what, action))

    def take(self) -> Entry:
        """Move the clock to the next entry and return it; IndexError when nothing is due any more."""
        entry = heapq.heappop(self._entries)
        self.now = entry.at
        return entry
