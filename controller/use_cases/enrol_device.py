"""Enrol a device: a machine shows a one-time token and proves its key, and becomes a device with an id.

A device that waits for approval asks with the same request until a person has decided. Asking again is always safe:
the same key with the same token is the same device.
"""

from dataclasses import dataclass
from datetime import datetime

from controller.domain.device_states import DeviceState
from controller.domain.errors import Conflict, InvalidInput, NotAllowed
from controller.domain.fleet import Device
from controller.domain.ids import PREFIXES, DeviceId
from controller.store import device_identities, enrolment_tokens
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.device_identities import DeviceIdentity, NewIdentity
from controller.store.enrolment_tokens import StoredToken
from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.device_ca import serial_and_expiry
from controller.trust.identity.enrolment import ProvenDeviceKey, read_csr, secret_matches
from controller.trust.signer.interface import OnlineSigner
from controller.use_cases.identity import new_id
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import EnrolmentRequest, EnrolmentToken


@dataclass(frozen=True)
class Enrolment:
    """What became of a machine that asked."""

    device: DeviceId
    certificate_pem: bytes | None
    """None while the device waits for approval."""


def enrol_device(database: Database, signer: OnlineSigner, request: EnrolmentRequest, *, now: datetime) -> Enrolment:
    """Write the device and use the token up by one, or find the device that this very request became before.

    Labels of the token override the device's own: they decide which groups the device is in.
    """
    key = read_csr(request.csr_pem)
    if isinstance(key, Refusal):
        raise InvalidInput(f"csr_pem is refused: {key.detail}", code=key.code, field="/csr_pem")
    with database.writing() as tx:
        token = _known_token(tx, request.token)
        device = device_identities.enrolled_with(tx, key.pem, token.id) or _enrol(tx, token, request, key, now)
        if device.state is DeviceState.REVOKED:
            raise NotAllowed(
                f"{device.id} was revoked; enrol the machine anew, with a new key and a new token",
                code=RefusalCode.DEVICE_REVOKED,
            )
        if device.state is DeviceState.PENDING:
            return Enrolment(device.id, None)
        # Within the transaction: a device whose certificate cannot be issued has not used its token up.
        certificate_pem = signer.issue_certificate(device.id, key.pem)
        device_identities.set_certificate(tx, device.id, key.pem, *serial_and_expiry(certificate_pem))
    return Enrolment(device.id, certificate_pem)


def _enrol(
    tx: Transaction, token: StoredToken, request: EnrolmentRequest, key: ProvenDeviceKey, now: datetime
) -> DeviceIdentity:
    _use(tx, token, request, now)
    name = token.device_name or request.name
    state = DeviceState.PENDING if token.needs_approval else DeviceState.APPROVED
    labels = {**request.labels, **token.labels}
    device = Device(DeviceId(new_id(PREFIXES[DeviceId])), name, request.profile, labels)
    identity = NewIdentity(key.pem, token.id, state, request.encryption_key, request.serial)
    if not device_identities.insert_device(tx, device, identity, now):
        raise Conflict(
            f"the name {name!r} belongs to another device; choose another name",
            code="device_name_taken",
            field="/name",
        )
    waits = "; it waits for approval" if state is DeviceState.PENDING else ""
    add_event(tx, now, "device", "device.enrolled", device.id, f"{name} enrolled with token {token.id}{waits}")
    record_change(tx, now, [device.id])
    return DeviceIdentity(device.id, name, state, key.pem)


def _known_token(tx: Transaction, text: str) -> StoredToken:
    try:
        shown = EnrolmentToken.parse(text)
    except ProtocolError as error:
        raise _refused(str(error)) from error
    token = enrolment_tokens.find_token(tx, shown.id)
    if token is None or not secret_matches(shown.secret, token.secret_hash):
        raise _refused(f"there is no enrolment token {shown.id} with this secret; ask for a new one")
    return token


def _use(tx: Transaction, token: StoredToken, request: EnrolmentRequest, now: datetime) -> None:
    if now >= token.expires_at:
        raise _refused(
            f"enrolment token {token.id} expired at {token.expires_at:%Y-%m-%d %H:%M} UTC; ask for a new one"
        )
    if token.serial is not None and request.serial != token.serial:
        # Not which one: whoever has found a token shall not learn whose it is.
        raise _refused(f"enrolment token {token.id} is bound to another serial number; ask for one for this machine")
    if not enrolment_tokens.use_token(tx, token.id):
        raise _refused(f"enrolment token {token.id} is used up; ask for a new one")


def _refused(detail: str) -> NotAllowed:
    return NotAllowed(detail, code=RefusalCode.ENROL_TOKEN, field="/token")
