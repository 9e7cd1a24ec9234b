"""The device API as calls with typed results: an expected "no" is a value, and nothing here decides what to do.

A controller that cannot be reached, is overloaded or breaks off is always `RetryLater`; whatever it says
beyond its status is taken as data only once its signature has been verified elsewhere.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from device_agent.identity import Enrolled, Identity
from device_agent.protocol.assignment import ASSIGNMENT_BYTES_MAX
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields
from device_agent.protocol.messages import SIGNATURE_HEADER, EnrolmentRequest
from device_agent.transport import Answer, Transport

_DOCUMENT_BYTES_MAX = 256 * 1024
_CERTIFICATE_CHARACTERS_MAX = 16 * 1024
_JSON = {"Content-Type": "application/json"}
_NO_DEVICE = frozenset({"E_DEVICE_REVOKED", "E_DEVICE_PENDING"})
"""Why a session is refused for as long as people do not decide otherwise: a new one would be refused too."""


@dataclass(frozen=True)
class RetryLater:
    """No usable answer this time."""

    reason: str
    seconds: float | None = None
    """What the controller asked for, if it did."""


@dataclass(frozen=True)
class Refused:
    """The controller understood and said no; asking the same again will not help."""

    status: int
    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.detail}"


@dataclass(frozen=True)
class Pending:
    """The machine waits for somebody to approve it."""

    device: str


@dataclass(frozen=True)
class Session:
    """A right to poll and report."""

    token: str
    expires_s: float


@dataclass(frozen=True)
class NotModified:
    """The assignment is the one the device has."""


@dataclass(frozen=True)
class Fresh:
    """An assignment to verify."""

    body: bytes
    tag: str | None
    """The entity tag to send with the next poll, once the assignment is accepted."""


@dataclass(frozen=True)
class SessionOver:
    """The session is not valid any more."""


@dataclass(frozen=True)
class Accepted:
    """The batch is durably stored at the controller."""


@dataclass(frozen=True)
class Renewed:
    """A new certificate, in PEM."""

    certificate: str


PollResult = NotModified | Fresh | SessionOver | RetryLater | Refused
SendResult = Accepted | SessionOver | RetryLater | Refused
RenewalResult = Renewed | SessionOver | RetryLater | Refused


class ControllerClient:
    """Speaks the device API at one controller."""

    def __init__(self, transport: Transport, controller_url: str) -> None:
        """`controller_url` is the base URL; the API's paths are appended to it."""
        self._transport = transport
        self._url = controller_url.rstrip("/")

    def enrol(self, request: EnrolmentRequest) -> Enrolled | Pending | RetryLater | Refused:
        """Turn a one-time token into an identity. Asking again with the same request is how a pending machine waits."""
        answer = self._call("POST", "/device/v1/enrol", headers=_JSON, body=json.dumps(request.to_json()).encode())
        if isinstance(answer, RetryLater):
            return answer
        if answer.status not in {201, 202}:
            return _no(answer)
        try:
            fields = Fields.from_json(answer.body, "enrolment")
            if answer.status == 202:
                return Pending(fields.text("device", most=64))
            return Enrolled(
                fields.text("device", most=64),
                base64.b64decode(fields.text("image_root", most=_DOCUMENT_BYTES_MAX), validate=True),
                base64.b64decode(fields.text("director_root", most=_DOCUMENT_BYTES_MAX), validate=True),
                fields.optional_text("certificate", most=_CERTIFICATE_CHARACTERS_MAX),
            )
        except (ProtocolError, binascii.Error) as error:
            return RetryLater(str(error))

    def open_session(self, identity: Identity) -> Session | RetryLater | Refused:
        """Prove possession of the device's key and get a session."""
        answer = self._call("GET", "/device/v1/challenge")
        if isinstance(answer, RetryLater):
            return answer
        if answer.status != 200:
            return _no(answer)
        try:
            challenge = Fields.from_json(answer.body, "challenge").text("challenge")
            body = identity.session_envelope(challenge)
            answer = self._call("POST", "/device/v1/session", headers=_JSON, body=body)
            if isinstance(answer, RetryLater):
                return answer
            if answer.status != 200:
                return _no(answer)
            fields = Fields.from_json(answer.body, "session")
            return Session(fields.text("token", most=4096), fields.number("expires_s"))
        except ProtocolError as error:
            return RetryLater(str(error))

    def poll(self, session: Session, tag: str | None) -> PollResult:
        """Ask for the assignment, unless it is still the one with this entity tag."""
        headers = _bearer(session) | ({"If-None-Match": tag} if tag else {})
        answer = self._call("GET", "/device/v1/assignment", headers=headers, bytes_max=ASSIGNMENT_BYTES_MAX)
        if isinstance(answer, RetryLater):
            return answer
        if answer.status == 304:
            return NotModified()
        if answer.status == 200:
            return Fresh(answer.body, answer.headers.get("ETag"))
        return _over_or_no(answer)

    def send(self, session: Session, batch: bytes, signature: str) -> SendResult:
        """Hand over a report batch with the device's signature of it; sending it again is harmless."""
        headers = {**_bearer(session), **_JSON, SIGNATURE_HEADER: signature}
        answer = self._call("POST", "/device/v1/reports", headers=headers, body=batch)
        if isinstance(answer, RetryLater):
            return answer
        if answer.status == 200:
            return Accepted()
        return _over_or_no(answer)

    def renew_certificate(self, session: Session, envelope: bytes) -> RenewalResult:
        """Ask for a new certificate of the device's key."""
        headers = {**_bearer(session), **_JSON}
        answer = self._call("POST", "/device/v1/certificate", headers=headers, body=envelope)
        if isinstance(answer, RetryLater):
            return answer
        if answer.status != 200:
            return _over_or_no(answer)
        try:
            fields = Fields.from_json(answer.body, "renewal")
            return Renewed(fields.text("certificate", most=_CERTIFICATE_CHARACTERS_MAX))
        except ProtocolError as error:
            return RetryLater(str(error))

    def _call(
        self, method: str, path: str, *, bytes_max: int = _DOCUMENT_BYTES_MAX, **rest: Any
    ) -> Answer | RetryLater:
        try:
            return self._transport.call(method, f"{self._url}{path}", bytes_max=bytes_max, **rest)
        except ProtocolError as error:
            return RetryLater(str(error))


def _bearer(session: Session) -> dict[str, str]:
    return {"Authorization": f"Bearer {session.token}"}


def _over_or_no(answer: Answer) -> SessionOver | RetryLater | Refused:
    """Tell a session that is over from a device that is not to have any."""
    said = _no(answer)
    if answer.status == 401 and not (isinstance(said, Refused) and said.code in _NO_DEVICE):
        return SessionOver()
    return said


def _no(answer: Answer) -> RetryLater | Refused:
    """Tell a refusal from a moment of weakness: only a 4xx that says nothing of load is final."""
    if answer.status in {408, 425, 429} or not 400 <= answer.status < 500:
        return RetryLater(f"status {answer.status}", answer.retry_after_s)
    try:
        problem = Fields.from_json(answer.body, "problem")
        code, detail = problem.text("code", most=64), problem.optional_text("detail", most=2000)
    except ProtocolError:
        code, detail = str(Code.HTTP), None
    return Refused(answer.status, code, detail or f"status {answer.status}")
