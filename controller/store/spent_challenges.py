"""Challenges that were answered: each opens one session. Rows are of use as long as the challenge would hold."""

from datetime import datetime

from sqlalchemy import delete

from controller.store.database import Transaction, upsert
from controller.store.trust_tables import spent_challenge


def spend_challenge(tx: Transaction, digest: str, expires_at: datetime) -> bool:
    """Remember the challenge (its sha256) as answered; False when it was answered before, by whichever process."""
    row = {"challenge": digest, "expires_at": expires_at}
    statement = upsert(tx, spent_challenge).values(row).on_conflict_do_nothing()
    return tx.execute(statement.returning(spent_challenge.c.challenge)).first() is not None


def forget_challenges(tx: Transaction, now: datetime) -> int:
    """Delete the challenges that are over; return how many."""
    return tx.execute(delete(spent_challenge).where(spent_challenge.c.expires_at < now)).rowcount
