"""The device API as the schema shows it. What devices do rarely is served here, the rest by `asgi.py`."""

import base64
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.dependencies import ServicesDep
from controller.api.device.asgi import AssignmentHandler, ReportsHandler, read_body
from controller.api.trusted_proxies import trusted_proxies
from controller.domain.errors import NotAllowed
from controller.domain.ids import DeviceId
from controller.trust.errors import Refusal
from controller.trust.identity.sessions import ENVELOPE_BYTES_MAX, plain_origin
from controller.use_cases.enrol_device import enrol_device
from controller.use_cases.open_session import SessionRules, ShownCertificate, open_session
from controller.use_cases.renew_certificate import RENEWAL_BYTES_MAX, renew_certificate
from controller.wiring import Services
from device_agent.protocol.fields import Fields
from device_agent.protocol.messages import EnrolmentRequest

ENROLMENT_BYTES_MAX = 64 * 1024
TIME_QUESTION_BYTES_MAX = 256
NONCE = re.compile(r"[0-9a-f]{16,64}")
router = APIRouter(prefix="/device/v1", tags=["device"])


class EnrolledDevice(BaseModel):
    """A new device's identity, and the two root documents its trust starts from (the token's pin covers both)."""

    device: str = Field(examples=["dv_0199c0ffee000123456789"])
    image_root: str = Field(description="Exact bytes of the image repository's first root document, in base64.")
    director_root: str = Field(description="Exact bytes of the director's first root document, in base64.")
    certificate: str = Field(description="The device's certificate in PEM, for proxies that ask for one.")


class WaitingDevice(BaseModel):
    """A device that a person has to approve; the same request asks again."""

    device: str = Field(examples=["dv_0199c0ffee000123456789"])
    status: Literal["pending"] = "pending"


class RenewedCertificate(BaseModel):
    """A device's new certificate."""

    certificate: str = Field(description="In PEM. The key that it names is the device's from now on.")


class Challenge(BaseModel):
    """What a device signs to open a session; good for a minute."""

    challenge: str


class OpenedSession(BaseModel):
    """The bearer token of a session."""

    token: str
    expires_s: int = Field(description="How long the session lasts, in seconds.")


async def _enrolment_body(request: Request) -> bytes:
    return await read_body(request.receive, ENROLMENT_BYTES_MAX)


async def _session_body(request: Request) -> bytes:
    return await read_body(request.receive, ENVELOPE_BYTES_MAX)


async def _renewal_body(request: Request) -> bytes:
    return await read_body(request.receive, RENEWAL_BYTES_MAX)


async def _time_body(request: Request) -> bytes:
    return await read_body(request.receive, TIME_QUESTION_BYTES_MAX)


def _device_of_session(request: Request, services: ServicesDep) -> DeviceId:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    device = services.sessions.check_token(token, services.clock()) if scheme.lower() == "bearer" else None
    if device is None:
        raise NotAllowed("no session, or it is over; open a new one", code="session_over")
    return DeviceId(device)


def _takes(description: str, media_type: str = "application/json") -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "object", "description": description}}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/enrol",
    status_code=201,
    responses={202: {"model": WaitingDevice, "description": "An operator has to approve the device; ask again"}},
    openapi_extra=_takes(
        "token, csr_pem (P-256), name, profile, labels, encryption_key, serial; `device_agent/protocol/messages.py`"
    ),
)
def enrol(
    raw: Annotated[bytes, Depends(_enrolment_body)], response: Response, services: ServicesDep
) -> EnrolledDevice | WaitingDevice:
    """Turn a machine that shows a one-time token into a device."""
    enrolled = enrol_device(services.database, services.signer, EnrolmentRequest.parse(raw), now=services.clock())
    if enrolled.certificate_pem is None:
        response.status_code = 202
        return WaitingDevice(device=enrolled.device)
    return EnrolledDevice(
        device=enrolled.device,
        image_root=base64.b64encode(services.image_repository.roots.first_bytes()).decode(),
        director_root=base64.b64encode(services.director_root).decode(),
        certificate=enrolled.certificate_pem.decode(),
    )


@router.get("/challenge")
def challenge(services: ServicesDep) -> Challenge:
    """Return a challenge. Nothing is stored for it."""
    return Challenge(challenge=services.sessions.issue_challenge(services.clock()))


@router.post(
    "/session",
    openapi_extra=_takes("DSSE envelope over the device's id and a challenge, signed with the device's key"),
)
def session(raw: Annotated[bytes, Depends(_session_body)], request: Request, services: ServicesDep) -> OpenedSession:
    """Open a session for a device that signs a challenge with the key it was enrolled with."""
    opened = open_session(
        services.database, services.sessions, raw, _session_rules(request, services), now=services.clock()
    )
    if isinstance(opened, Refusal):
        raise NotAllowed(opened.detail, code=opened.code)
    return OpenedSession(token=opened.token, expires_s=opened.expires_s)


def _session_rules(request: Request, services: Services) -> SessionRules:
    settings = services.settings
    audiences = frozenset(map(plain_origin, filter(None, settings.device_audiences.split(","))))
    if settings.client_certificates == "off":
        return SessionRules(audiences)
    shown = trusted_proxies(settings.trusted_proxies).client_certificate(request.scope)
    if isinstance(shown, Refusal):
        raise NotAllowed(shown.detail, code=shown.code)
    return SessionRules(audiences, ShownCertificate(shown, services.signer.ca_certificate()))


@router.post(
    "/certificate",
    openapi_extra=_takes("DSSE envelope over the device's id and a csr_pem (P-256), signed with its present key"),
)
def certificate(
    raw: Annotated[bytes, Depends(_renewal_body)],
    device_id: Annotated[DeviceId, Depends(_device_of_session)],
    services: ServicesDep,
) -> RenewedCertificate:
    """Renew the certificate of the session's device, for the key that it has or for a new one."""
    renewed = renew_certificate(services.database, services.signer, device_id, raw, now=services.clock())
    return RenewedCertificate(certificate=renewed.decode())


@router.post("/time", openapi_extra=_takes("nonce: 16 to 64 hexadecimal digits that nobody has sent before"))
def time(raw: Annotated[bytes, Depends(_time_body)], services: ServicesDep) -> Response:
    """Return the time in a DSSE envelope of the director that carries the nonce. Anybody may ask."""
    nonce = Fields.from_json(raw, "time").text("nonce", pattern=NONCE)
    return Response(services.signer.sign_time(nonce), media_type="application/json")


class _AnsweredBy(Response):
    """Hands the request to one of the plain handlers, which `DeviceDispatch` otherwise reaches directly."""

    def __init__(self, handler: ASGIApp) -> None:
        super().__init__()
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._handler(scope, receive, send)


@router.get(
    "/assignment",
    status_code=200,  # the framework cannot read it off a response class of another shape
    response_class=_AnsweredBy,
    responses={
        200: {"description": "DSSE envelope of the device's assignment; the ETag is its counter"},
        304: {"description": "The assignment named by If-None-Match is still good"},
        401: {"description": "The session is over; open a new one"},
        503: {"description": "Come again after Retry-After seconds"},
    },
)
async def assignment(request: Request) -> Response:
    """Return what the device shall run. Send the last ETag in If-None-Match, with the session's bearer token."""
    return _AnsweredBy(AssignmentHandler(request.app.state.hot_path))


@router.post(
    "/reports",
    status_code=200,
    response_class=_AnsweredBy,
    openapi_extra=_takes("a batch of reports; `ReportBatch` in `device_agent/protocol/messages.py`"),
    responses={
        200: {"description": "The batch is durable, now or since an earlier attempt"},
        400: {"description": "The batch can never be accepted; drop it. E_SIG_THRESHOLD[report]: not signed"},
        401: {"description": "The session is over; open a new one"},
        403: {"description": "E_WRONG_DEVICE: the batch names another device than the session"},
        409: {"description": "E_REPORT_REPLAY: taken before; E_CLONE_SUSPECTED: two machines seem to have one key"},
        503: {"description": "Come again after Retry-After seconds"},
    },
)
async def reports(request: Request) -> Response:
    """Take a batch of reports, signed in the header Edgefleet-Signature. Each is applied once, however often sent."""
    return _AnsweredBy(ReportsHandler(request.app.state.hot_path))
