"""Enrol a device: a machine shows a one-time token and proves its key, and becomes a device with an id."""

from datetime import datetime

from controller.domain.errors import Conflict, InvalidInput, NotAllowed
from controller.domain.fleet import Device
from controller.domain.ids import PREFIXES, DeviceId
from controller.store import devices, enrolment_tokens
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.enrolment_tokens import StoredToken
from controller.trust.enrolment import read_csr, secret_matches
from controller.trust.errors import Refusal
from controller.use_cases.identity import new_id
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import EnrolmentRequest, EnrolmentToken


def enrol_device(database: Database, request: EnrolmentRequest, *, now: datetime) -> DeviceId:
    """Write the device and use the token up by one; return the device's id.

    The same machine asking again, because the answer was lost, gets the same id. Labels of the token override
    the device's own: they decide which groups the device is in.
    """
    key = read_csr(request.csr_pem)
    if isinstance(key, Refusal):
        raise InvalidInput(f"csr_pem is refused: {key.detail}", code=key.code, field="/csr_pem")
    with database.writing() as tx:
        token = _known_token(tx, request.token)
        again = devices.enrolled_with(tx, request.name, key.pem, token.id)
        if again:
            return again
        _use(tx, token, now)
        device = Device(
            DeviceId(new_id(PREFIXES[DeviceId])), request.name, request.profile, {**request.labels, **token.labels}
        )
        if not devices.insert_device(tx, device, key.pem, token.id, now):
            raise Conflict(
                f"the name {request.name!r} belongs to another device; choose another name",
                code="device_name_taken",
                field="/name",
            )
        add_event(tx, now, "device", "device.enrolled", device.id, f"{device.name} enrolled with token {token.id}")
        record_change(tx, now, [device.id])
    return device.id


def _known_token(tx: Transaction, text: str) -> StoredToken:
    try:
        shown = EnrolmentToken.parse(text)
    except ProtocolError as error:
        raise NotAllowed(str(error), code="enrolment_token_unknown", field="/token") from error
    token = enrolment_tokens.find_token(tx, shown.id)
    if token is None or not secret_matches(shown.secret, token.secret_hash):
        raise NotAllowed(
            f"there is no enrolment token {shown.id} with this secret; ask for a new one",
            code="enrolment_token_unknown",
            field="/token",
        )
    return token


def _use(tx: Transaction, token: StoredToken, now: datetime) -> None:
    if now >= token.expires_at:
        raise NotAllowed(
            f"enrolment token {token.id} expired at {token.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one",
            code="enrolment_token_expired",
            field="/token",
        )
    if not enrolment_tokens.use_token(tx, token.id):
        raise NotAllowed(
            f"enrolment token {token.id} is used up; ask for a new one", code="enrolment_token_used", field="/token"
        )
