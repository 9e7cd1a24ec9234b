"""Forget challenges that are over: nobody can answer them again."""

from datetime import datetime

from controller.store import spent_challenges
from controller.store.database import Database


def forget_challenges(database: Database, *, now: datetime) -> int:
    """Delete what no longer holds; return how many."""
    with database.writing() as tx:
        return spent_challenges.forget_challenges(tx, now)
