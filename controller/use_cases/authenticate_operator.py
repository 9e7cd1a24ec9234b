"""Tell who shows an operator's token: the one of the installation, or one of those that were made for persons."""

import hmac
from datetime import datetime

import structlog

from controller.domain.errors import NotAllowed, Unavailable
from controller.domain.operators import Operator, bootstrap_operator, split_token, why_refused
from controller.store.database import Database
from controller.store.operator_tokens import USE_NOTED_EVERY, find_operator_token, note_use

CODE = "operator_token_needed"
_log = structlog.get_logger()


def authenticate_operator(
    database: Database, shown: str, *, bootstrap: str, address: str | None, now: datetime
) -> Operator:
    """Return who shows the token, coming from this address; NotAllowed says what is wrong with it.

    `bootstrap` is the token of the installation; an empty one lets nobody in.
    """
    if bootstrap and hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), bootstrap.encode()):
        return bootstrap_operator()
    parts = split_token(shown)
    if parts is None:
        raise NotAllowed("this needs the header `Authorization: Bearer TOKEN` with an operator's token", code=CODE)
    token_id, secret = parts
    with database.reading() as tx:
        token = find_operator_token(tx, token_id)
    why = why_refused(token, secret, address, now)
    if why or token is None:
        _log.warning("an operator's token was refused", token=token_id, address=address, why=why)
        raise NotAllowed(f"{why}; ask for another: edgefleet operator create NAME", code=CODE)
    if token.last_used_at is None or token.last_used_at <= now - USE_NOTED_EVERY:
        _note_use(database, token_id, now)
    return Operator(token.name, token.scopes, token.id)


def _note_use(database: Database, token_id: str, now: datetime) -> None:
    try:
        with database.writing() as tx:
            note_use(tx, token_id, now)
    except Unavailable as error:
        # It is a note for people; who only reads must not wait for a database that others write to.
        _log.warning("the use of a token could not be noted", token=token_id, error=error.detail)
