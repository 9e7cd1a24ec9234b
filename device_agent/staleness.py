"""Whether what this device runs is still known to be what it shall run.

An assignment is fresh for two days. After that nobody vouches for it, which stops nothing: the models go on serving. It
is said, because a device that hears nothing new may be cut off on purpose.
"""

import logging
from datetime import datetime

from device_agent.journal import Record
from device_agent.protocol.fields import format_utc

_log = logging.getLogger(__name__)


def is_stale(record: Record, now: datetime) -> bool:
    """Tell whether the newest accepted assignment has expired; a device that has none yet is not stale."""
    return record.assignment_expires is not None and now >= record.assignment_expires


class Staleness:
    """Says it once when the assignment expires, and once when it is fresh again."""

    def __init__(self) -> None:
        """Begin fresh."""
        self._is_stale = False

    def notice(self, record: Record, now: datetime) -> None:
        """Compare with what was said last."""
        stale = is_stale(record, now)
        if stale and not self._is_stale:
            expired = format_utc(record.assignment_expires or now)
            _log.warning("stale: the assignment expired at %s and none is newer; what is active goes on", expired)
        elif self._is_stale and not stale:
            _log.info("not stale any more: the assignment is fresh")
        self._is_stale = stale
