"""What time it is, as far as this device can tell: its clock, but never before what was signed.

A device may start in 1970. A moment that both repositories have stated in signed documents is a floor: it takes
both, so that neither key alone can push a device's time forward until everything has expired.

A clock that is plainly wrong, or that makes a document just fetched look too old or too new, is corrected by the
director's signed answer (`time_question`). The correction lives in memory alone and never goes below the floor: a
director that lies about the time is forgotten with the next honest answer.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from device_agent.journal import Record

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
"""No release of this agent is older, so no honest clock is."""


def time_floor(record: Record) -> datetime:
    """Return the latest moment that is certainly past."""
    if record.director_issued and record.image_issued:
        return max(BUILT, min(record.director_issued, record.image_issued))
    return BUILT


class DeviceClock:
    """The wall clock with its floor."""

    def __init__(self, wall: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """`wall` tells the time; it may be wrong."""
        self._wall = wall
        self._correction = timedelta()

    def now(self, record: Record) -> datetime:
        """Return the device's best knowledge of the time, in UTC."""
        return max(self._wall() + self._correction, time_floor(record))

    def is_behind(self, record: Record) -> bool:
        """Tell whether the clock shows a time that is certainly past."""
        return self._wall() + self._correction < time_floor(record)

    def correct(self, told: datetime) -> None:
        """Go by what was told from now on, until the process ends or something else is told."""
        self._correction = told - self._wall()
