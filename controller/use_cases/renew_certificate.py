"""Renew a device's certificate: the present key vouches for the request, which may bring a new key."""

from datetime import datetime

from controller.domain.errors import Forbidden, InvalidInput, NotAllowed
from controller.domain.ids import DeviceId
from controller.store import device_identities
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.device_identities import DeviceIdentity
from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.device_ca import serial_and_expiry
from controller.trust.identity.device_envelopes import is_signed_by, read_device_envelope
from controller.trust.identity.enrolment import ProvenDeviceKey, read_csr
from controller.trust.signer.interface import OnlineSigner
from controller.use_cases.open_session import refused_state
from device_agent.protocol.fields import Fields
from device_agent.protocol.messages import RENEWAL_PAYLOAD_TYPE

RENEWAL_BYTES_MAX = 24 * 1024


def renew_certificate(
    database: Database, signer: OnlineSigner, device_id: DeviceId, raw: bytes, *, now: datetime
) -> bytes:
    """Return a new certificate (PEM) for the device of the session; the key it names is the device's from now on.

    `raw` is a DSSE envelope signed by the device's present key. Sent again after its answer was lost, it is taken if
    it is signed by the key that the device now has, the new one.
    """
    envelope = read_device_envelope(raw, RENEWAL_PAYLOAD_TYPE, bytes_max=RENEWAL_BYTES_MAX, role="renewal")
    if isinstance(envelope, Refusal):
        raise InvalidInput(envelope.detail, code=envelope.code)
    fields = Fields.from_json(envelope.payload, "renewal")
    named, csr_pem = fields.text("device", most=64), fields.text("csr_pem", most=8192)
    if named != device_id:
        detail = f"the request names {named}, the session is that of {device_id}"
        raise Forbidden(detail, code=RefusalCode.WRONG_DEVICE, field="/device")
    key = read_csr(csr_pem)
    if isinstance(key, Refusal):
        raise InvalidInput(f"csr_pem is refused: {key.detail}", code=key.code, field="/csr_pem")
    with database.writing() as tx:
        known = _admitted(tx, device_id)
        if not is_signed_by(envelope, known.public_key_pem):
            detail = f"the request is not signed by the key that {device_id} has now"
            raise NotAllowed(detail, code=RefusalCode.REQUEST_SIGNATURE)
        return _renew(tx, signer, known, key, now)


def _admitted(tx: Transaction, device_id: DeviceId) -> DeviceIdentity:
    known = device_identities.identity_of(tx, device_id, lock=True)
    if known is None:
        raise NotAllowed(f"{device_id} is not an enrolled device", code=RefusalCode.DEVICE_UNKNOWN)
    refusal = refused_state(known)
    if refusal:
        raise NotAllowed(refusal.detail, code=refusal.code)
    return known


def _renew(tx: Transaction, signer: OnlineSigner, known: DeviceIdentity, key: ProvenDeviceKey, now: datetime) -> bytes:
    certificate_pem = signer.issue_certificate(known.id, key.pem)
    serial, expires_at = serial_and_expiry(certificate_pem)
    device_identities.set_certificate(tx, known.id, key.pem, serial, expires_at)
    rekeyed = key.pem != known.public_key_pem
    words = f"{known.name} has a certificate until {expires_at:%Y-%m-%d}{', for a new key' if rekeyed else ''}"
    add_event(tx, now, "device", "device.certificate_renewed", known.id, words)
    if rekeyed:
        record_change(tx, now, [known.id])
    return certificate_pem
