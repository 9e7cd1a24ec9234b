"""Forget old entries of the change log, which only tells running processes what to read again."""

from datetime import datetime, timedelta

from controller.store import changes
from controller.store.database import Database

KEPT = timedelta(hours=1)
"""Far longer than a healthy process is behind; one that was suspended longer notices the gap."""


def forget_changes(database: Database, *, now: datetime) -> int:
    """Delete what is older than KEPT; return how many entries."""
    with database.writing() as tx:
        return changes.forget_changes(tx, now - KEPT)
