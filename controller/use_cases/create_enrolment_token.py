"""Create an enrolment token: what a machine shows once to become a device."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.errors import InvalidInput
from controller.store import enrolment_tokens
from controller.store.database import Database, add_event
from controller.trust.enrolment import secret_digest
from device_agent.protocol.messages import EnrolmentToken

TTL_MAX = timedelta(days=365)


@dataclass(frozen=True)
class CreatedToken:
    """The token's text is shown here and never again: only its hash is stored."""

    id: str
    text: str
    expires_at: datetime
    uses_left: int


def create_enrolment_token(
    database: Database, token: EnrolmentToken, labels: dict[str, str], uses: int, ttl: timedelta, *, now: datetime
) -> CreatedToken:
    """Write the hash of a fresh token (`trust.enrolment.new_enrolment_token`), and what it is good for."""
    if not 1 <= uses <= 100_000:
        raise InvalidInput(f"uses is {uses}; expected 1 to 100000", field="/uses")
    if not timedelta(0) < ttl <= TTL_MAX:
        raise InvalidInput(f"ttl_s is {ttl.total_seconds():g}; expected up to a year", field="/ttl_s")
    expires_at = now + ttl
    row = {
        "id": token.id,
        "secret_hash": secret_digest(token.secret),
        "labels": labels,
        "uses_left": uses,
        "expires_at": expires_at,
        "created_at": now,
    }
    with database.writing() as tx:
        enrolment_tokens.insert_token(tx, row)
        add_event(tx, now, "operator", "token.created", token.id, f"enrolment token for {uses} devices")
    return CreatedToken(token.id, str(token), expires_at, uses)
