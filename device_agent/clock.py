"""What time it is, as far as this device can tell: its clock, but never before what was signed.

A device may start in 1970. A moment that both repositories have stated in signed documents is a floor: it takes
both, so that neither key alone can push a device's time forward until everything has expired.
"""

from collections.abc import Callable
from datetime import UTC, datetime

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

    def now(self, record: Record) -> datetime:
        """Return the device's best knowledge of the time, in UTC."""
        return max(self._wall(), time_floor(record))
