"""Create an enrolment token: what a machine shows once to become a device."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.domain.errors import InvalidInput
from controller.store import enrolment_tokens
from controller.store.audit import record_audit
from controller.store.database import Database, add_event
from controller.trust.identity.enrolment import secret_digest
from device_agent.protocol.fields import is_storable
from device_agent.protocol.manifest import NAME
from device_agent.protocol.messages import EnrolmentToken

TTL_MAX = timedelta(days=365)
SERIAL_CHARACTERS_MAX = 128


@dataclass(frozen=True)
class TokenTerms:
    """What a token is good for.

    It approves whoever shows it (ADR 18), unless it says that a person decides. A token with a serial number is a
    machine's registration before its first start: it is good for that machine alone, under a name of its own.
    """

    ttl: timedelta
    uses: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    needs_approval: bool = False
    serial: str | None = None
    device_name: str | None = None


@dataclass(frozen=True)
class CreatedToken:
    """The token's text is shown here and never again: only its hash is stored."""

    id: str
    text: str
    expires_at: datetime
    uses_left: int


def create_enrolment_token(
    database: Database, token: EnrolmentToken, terms: TokenTerms, *, now: datetime, actor: str = "operator"
) -> CreatedToken:
    """Write the hash of a fresh token (`trust.enrolment.new_enrolment_token`), and what it is good for."""
    _check(terms)
    expires_at = now + terms.ttl
    row = {
        "id": token.id,
        "secret_hash": secret_digest(token.secret),
        "labels": terms.labels,
        "uses_left": terms.uses,
        "needs_approval": terms.needs_approval,
        "serial": terms.serial,
        "device_name": terms.device_name,
        "expires_at": expires_at,
        "created_at": now,
    }
    detail = {name: row[name] for name in ("labels", "uses_left", "needs_approval", "serial", "device_name")}
    with database.writing() as tx:
        enrolment_tokens.insert_token(tx, row)
        add_event(tx, now, actor, "token.created", token.id, _words(terms))
        record_audit(tx, now, actor, "token.created", token.id, detail)
    return CreatedToken(token.id, str(token), expires_at, terms.uses)


def _check(terms: TokenTerms) -> None:
    if not 1 <= terms.uses <= 100_000:
        raise InvalidInput(f"uses is {terms.uses}; expected 1 to 100000", field="/uses")
    if not timedelta(0) < terms.ttl <= TTL_MAX:
        raise InvalidInput(f"ttl_s is {terms.ttl.total_seconds():g}; expected up to a year", field="/ttl_s")
    if terms.serial is not None:
        if not 1 <= len(terms.serial) <= SERIAL_CHARACTERS_MAX or not is_storable(terms.serial):
            detail = f"serial has {len(terms.serial)} characters; expected 1 to {SERIAL_CHARACTERS_MAX}"
            raise InvalidInput(detail, field="/serial")
        if terms.uses != 1:
            detail = f"uses is {terms.uses}; a token that is bound to one machine has one use"
            raise InvalidInput(detail, field="/uses")
    if terms.device_name is not None:
        if terms.serial is None:
            detail = "name needs a serial: without one, whichever machine comes first would get the name"
            raise InvalidInput(detail, field="/name")
        if not NAME.fullmatch(terms.device_name):
            detail = f"name is {terms.device_name!r}; use lower-case letters, digits, dot, dash and underscore"
            raise InvalidInput(detail, field="/name")


def _words(terms: TokenTerms) -> str:
    whom = f"for {terms.uses} devices"
    if terms.serial is not None:
        whom = f"for {terms.device_name or 'the machine'} with serial number {terms.serial}"
    return f"enrolment token {whom}{', each to be approved' if terms.needs_approval else ''}"
