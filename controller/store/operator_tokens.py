"""Queries about operators' tokens."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from controller.domain.operators import OperatorToken, Scope
from controller.store.tables import Row
from controller.store.trust_tables import operator_token

USE_NOTED_EVERY = timedelta(minutes=1)
_SHOWN = ("id", "name", "scopes", "network", "created_by", "created_at", "expires_at", "last_used_at", "revoked_at")


def insert_operator_token(tx: Connection, row: Row) -> None:
    """Write a token; the row holds the hash of its secret, never the secret."""
    tx.execute(insert(operator_token).values(row))


def find_operator_token(tx: Connection, token_id: str) -> OperatorToken | None:
    """Return the token, None when there is no such id."""
    row = tx.execute(select(operator_token).where(operator_token.c.id == token_id)).one_or_none()
    if row is None:
        return None
    scopes = frozenset(Scope(scope) for scope in row.scopes if scope in set(Scope))
    dates = (row.expires_at, row.revoked_at, row.last_used_at)
    return OperatorToken(row.id, row.name, row.secret_hash, scopes, row.network, *dates)


def all_operator_tokens(tx: Connection) -> list[dict[str, Any]]:
    """Return what may be shown of every token, newest first."""
    query = select(*(operator_token.c[name] for name in _SHOWN)).order_by(operator_token.c.created_at.desc())
    return [dict(row) for row in tx.execute(query).mappings()]


def note_use(tx: Connection, token_id: str, now: datetime) -> None:
    """Remember that the token was used now, unless something as recent is remembered."""
    last = operator_token.c.last_used_at
    is_due = or_(last.is_(None), last <= now - USE_NOTED_EVERY)
    tx.execute(update(operator_token).where(operator_token.c.id == token_id, is_due).values(last_used_at=now))


def end_operator_token(tx: Connection, token_id: str, now: datetime) -> bool:
    """Revoke the token; False when there is no such token that was not revoked already."""
    alive = (operator_token.c.id == token_id, operator_token.c.revoked_at.is_(None))
    return bool(tx.execute(update(operator_token).where(*alive).values(revoked_at=now)).rowcount)
