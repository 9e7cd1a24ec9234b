"""Queries about enrolment tokens."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from controller.store.tables import Row, enrolment_token


def insert_token(tx: Connection, row: Row) -> None:
    """Write a token; the row holds the hash of its secret, never the secret."""
    tx.execute(insert(enrolment_token).values(row))


def all_tokens(tx: Connection) -> list[dict[str, Any]]:
    """Return what may be shown of every token, newest first."""
    columns = ("id", "labels", "uses_left", "needs_approval", "serial", "device_name", "expires_at", "created_at")
    query = select(*(enrolment_token.c[name] for name in columns)).order_by(enrolment_token.c.created_at.desc())
    return [dict(row) for row in tx.execute(query).mappings()]


@dataclass(frozen=True)
class StoredToken:
    """What is needed to judge a machine that shows a token."""

    id: str
    secret_hash: str
    labels: dict[str, str]
    expires_at: datetime
    needs_approval: bool
    serial: str | None
    """The only machine that may use it."""
    device_name: str | None
    """The name that its device gets, whatever the machine calls itself."""


def find_token(tx: Connection, token_id: str) -> StoredToken | None:
    """Return the token, None when there is no such id. Locked, so that one request sent twice is enrolled once."""
    row = tx.execute(select(enrolment_token).where(enrolment_token.c.id == token_id).with_for_update()).one_or_none()
    if row is None:
        return None
    columns = (row.id, row.secret_hash, row.labels, row.expires_at, row.needs_approval, row.serial, row.device_name)
    return StoredToken(*columns)


def use_token(tx: Connection, token_id: str) -> bool:
    """Take one use off; False when none is left. Two machines at once cannot take the same use."""
    left = enrolment_token.c.uses_left
    taken = update(enrolment_token).where(enrolment_token.c.id == token_id, left > 0).values(uses_left=left - 1)
    return bool(tx.execute(taken).rowcount)
