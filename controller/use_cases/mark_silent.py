"""Mark devices silent: an assignment whose deadline passed without a word is an outcome like any other."""

from datetime import datetime

from controller.store import assignments
from controller.store.database import Database

OUTCOMES_MAX = 5000
"""How many outcomes one run marks, so that no transaction holds the database for long."""


def mark_silent(database: Database, *, now: datetime, outcomes_max: int = OUTCOMES_MAX) -> int:
    """Mark the oldest overdue outcomes silent; return how many. Call again when it returns `outcomes_max`."""
    with database.writing() as tx:
        return assignments.silence_outcomes(tx, now, outcomes_max)
