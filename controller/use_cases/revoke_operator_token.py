"""Revoke an operator's token: from the next request on it lets nobody in."""

from datetime import datetime

from controller.domain.errors import Conflict, NotFound
from controller.domain.operators import BOOTSTRAP_ID
from controller.store.audit import record_audit
from controller.store.database import Database, add_event
from controller.store.operator_tokens import end_operator_token, find_operator_token


def revoke_operator_token(database: Database, token_id: str, *, actor: str = "operator", now: datetime) -> None:
    """Revoke the token; NotFound names an unknown id, Conflict says that it is revoked already."""
    if token_id == BOOTSTRAP_ID:
        raise Conflict(
            "the installation's own token is not in the database; replace `operator.token` in the state folder, or "
            "EDGEFLEET_OPERATOR_TOKEN, and start the controller again",
            code="operator_token_bootstrap",
        )
    with database.writing() as tx:
        token = find_operator_token(tx, token_id)
        if token is None:
            raise NotFound(f"there is no operator's token {token_id!r}", code="operator_unknown")
        if not end_operator_token(tx, token_id, now):
            raise Conflict(f"the token {token_id} of {token.name} is revoked already", code="operator_revoked")
        add_event(tx, now, actor, "operator.revoked", token_id, f"token of {token.name} revoked")
        record_audit(tx, now, actor, "operator.revoked", token_id, {"name": token.name})
