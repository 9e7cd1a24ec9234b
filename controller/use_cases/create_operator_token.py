"""Create an operator's token: what a person shows with every request."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.operators import (
    TTL,
    Operator,
    Scope,
    check_grant,
    check_operator_name,
    check_ttl,
    hash_of_secret,
    network_text,
    scopes_of,
)
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event
from controller.store.operator_tokens import insert_operator_token


@dataclass(frozen=True)
class CreatedOperatorToken:
    """The token's text is shown here and never again: only its hash is stored."""

    id: str
    text: str
    name: str
    scopes: tuple[Scope, ...]
    network: str | None
    expires_at: datetime


def create_operator_token(
    database: Database,
    name: str,
    *,
    maker: Operator,
    role: str | None = None,
    scopes: Iterable[str] = (),
    ttl: timedelta = TTL,
    network: str | None = None,
    now: datetime,
) -> CreatedOperatorToken:
    """Write the hash of a fresh token for a person, and what it is good for.

    InvalidInput: a name, role, scope, life or network that does not fit. Forbidden(E_SCOPE): the maker lacks a scope.
    """
    check_operator_name(name)
    wanted = scopes_of(role, scopes)
    check_grant(maker, wanted)
    check_ttl(ttl)
    token_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    made = CreatedOperatorToken(
        id=token_id,
        text=f"flt_{token_id}_{secret}",
        name=name,
        scopes=tuple(sorted(wanted)),
        network=network_text(network),
        expires_at=now + ttl,
    )
    with database.writing() as tx:
        _write(tx, made, hash_of_secret(secret), maker.name, now)
    return made


def _write(tx: Transaction, made: CreatedOperatorToken, secret_hash: str, maker: str, now: datetime) -> None:
    granted = {"name": made.name, "scopes": list(made.scopes), "network": made.network}
    row = {"id": made.id, "secret_hash": secret_hash, "created_by": maker, "created_at": now}
    insert_operator_token(tx, {**row, **granted, "expires_at": made.expires_at})
    add_event(tx, now, maker, "operator.created", made.id, f"token for {made.name} with {', '.join(made.scopes)}")
    told = {**granted, "expires_at": made.expires_at.isoformat()}
    record_audit(tx, now, maker, "operator.created", made.id, told)
