"""Open a session: a device has signed a challenge with its key, for this controller, and does so once."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from controller.domain.device_states import DeviceState
from controller.store import device_identities, spent_challenges
from controller.store.database import Database
from controller.store.device_identities import DeviceIdentity
from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.device_ca import verify_client_certificate
from controller.trust.identity.sessions import (
    Answered,
    AuthenticatedDevice,
    Session,
    SessionRequest,
    Sessions,
    read_session_request,
)


@dataclass(frozen=True)
class ShownCertificate:
    """What a trusted proxy says that the TLS client has shown, and by whom it must have been issued."""

    der: bytes
    ca_pem: bytes


@dataclass(frozen=True)
class SessionRules:
    """What this controller asks of a device besides its key."""

    audiences: Collection[str] = ()
    """Origins that an answer may be for (`sessions.plain_origin`); empty: any."""
    certificate: ShownCertificate | None = None
    """None where no client certificate is asked for."""


NO_RULES = SessionRules()


def open_session(
    database: Database, sessions: Sessions, raw: bytes, rules: SessionRules = NO_RULES, *, now: datetime
) -> Session | Refusal:
    """Check the envelope that a device sent; return its session, or why there is none."""
    request = read_session_request(raw)
    if isinstance(request, Refusal):
        return request
    with database.reading() as tx:
        # Without a lock at first: only whoever holds a device's key makes the database write.
        known = device_identities.identity_of(tx, request.device)
    judged = _judge(sessions, request, known, rules, now)
    if isinstance(judged, Refusal):
        return judged
    with database.writing() as tx:
        newest = device_identities.identity_of(tx, request.device, lock=True)
        if newest != known:
            judged = _judge(sessions, request, newest, rules, now)
            if isinstance(judged, Refusal):
                return judged
        if not spent_challenges.spend_challenge(tx, judged.digest, judged.expires_at):
            return Refusal(RefusalCode.REPLAY, "this challenge has opened a session before; ask for a new one")
    return sessions.open(AuthenticatedDevice(request.device), now)


def _judge(
    sessions: Sessions, request: SessionRequest, known: DeviceIdentity | None, rules: SessionRules, now: datetime
) -> Answered | Refusal:
    if known is None:
        return Refusal(RefusalCode.DEVICE_UNKNOWN, f"{request.device} is not an enrolled device")
    answered = sessions.check_answer(request, known.public_key_pem, rules.audiences, now)
    if isinstance(answered, Refusal):
        return answered
    refusal = _refused_certificate(rules.certificate, known, now) or refused_state(known)
    return refusal or answered


def refused_state(known: DeviceIdentity) -> Refusal | None:
    """Return why a device that has proven its key gets nothing, None for one that is approved."""
    match known.state:
        case DeviceState.APPROVED:
            return None
        case DeviceState.PENDING:
            return Refusal(RefusalCode.DEVICE_PENDING, f"{known.name} waits for an operator to approve it")
        case DeviceState.REVOKED:
            return Refusal(RefusalCode.DEVICE_REVOKED, f"{known.name} was revoked; enrol it anew, with a new key")


def _refused_certificate(shown: ShownCertificate | None, known: DeviceIdentity, now: datetime) -> Refusal | None:
    if shown is None:
        return None
    certificate = verify_client_certificate(shown.der, shown.ca_pem, now)
    if isinstance(certificate, Refusal):
        return certificate
    if certificate.device != known.id:
        return Refusal(RefusalCode.DEVICE_CERT, f"the client certificate is that of {certificate.device}")
    if certificate.public_key_pem != known.public_key_pem:
        return Refusal(RefusalCode.DEVICE_CERT, "the client certificate is for a key that the device has replaced")
    if known.state is DeviceState.REVOKED:
        return Refusal(RefusalCode.DEVICE_CERT, f"the client certificate {certificate.serial} was revoked")
    return None
