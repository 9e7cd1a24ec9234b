"""How a machine becomes a device: once, with a one-time token, before anything else.

Where somebody has to approve the machine first, it asks again with the same request until that is done.
"""

import logging
from random import Random

from device_agent.controller_client import ControllerClient, Pending, Refused, RetryLater
from device_agent.errors import EnrolmentError
from device_agent.identity import (
    Identity,
    device_key,
    encryption_key,
    encryption_key_text,
    load_identity,
    signing_request,
    store_identity,
)
from device_agent.polling import Backoff, retry_s
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import EnrolmentRequest, EnrolmentToken
from device_agent.protocol.profile import DeviceProfile
from device_agent.settings import Settings
from device_agent.stopping import StopSignal

_log = logging.getLogger(__name__)


def obtain_identity(
    settings: Settings, profile: DeviceProfile, client: ControllerClient, *, random: Random, stop: StopSignal
) -> Identity | None:
    """Return the stored identity, or enrol; None when told to stop before the controller answered or approved.

    EnrolmentError when the controller turns the token away or its root documents do not fit the token's pin.
    """
    identity = load_identity(settings.state_dir)
    if identity:
        return identity
    token = _parse_token(settings.read_token())
    request = EnrolmentRequest(
        token=str(token),
        csr_pem=signing_request(device_key(settings.state_dir), settings.name),
        name=settings.name,
        profile=profile,
        labels=dict(settings.labels),
        encryption_key=encryption_key_text(encryption_key(settings.state_dir)),
        serial=settings.serial or None,
    )
    backoff = Backoff(settings.polling.retry_base_s, settings.polling.retry_cap_s)
    failures = 0
    while not stop.is_set:
        answer = client.enrol(request)
        if isinstance(answer, Refused):
            raise EnrolmentError(f"the controller refuses this machine: {answer}; make a new enrolment token")
        if not isinstance(answer, RetryLater | Pending):
            identity = store_identity(settings.state_dir, settings.controller_url, token, answer)
            _log.info("enrolled as %s", identity.device)
            return identity
        failures += 1
        asked_s = None
        if isinstance(answer, Pending):
            _log.warning("enrolment: device %s waits to be approved at the controller", answer.device)
        else:
            _log.warning("enrolment: %s", answer.reason)
            asked_s = answer.seconds
        stop.wait(retry_s(failures, backoff, random, asked_s))
    return None


def _parse_token(text: str) -> EnrolmentToken:
    try:
        return EnrolmentToken.parse(text)
    except ProtocolError as error:
        raise EnrolmentError(f"{error}; copy the whole token") from error
