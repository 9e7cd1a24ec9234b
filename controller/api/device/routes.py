"""The device API as the schema shows it. What devices do rarely is served here, the rest by `asgi.py`."""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.dependencies import ServicesDep
from controller.api.device.asgi import AssignmentHandler, ReportsHandler, read_body
from controller.domain.errors import NotAllowed
from controller.store import devices
from controller.trust.errors import Refusal
from controller.trust.sessions import ENVELOPE_BYTES_MAX
from controller.use_cases.enrol_device import enrol_device
from device_agent.protocol.messages import EnrolmentRequest

ENROLMENT_BYTES_MAX = 64 * 1024
router = APIRouter(prefix="/device/v1", tags=["device"])


class EnrolledDevice(BaseModel):
    """A new device's identity, and the two root documents its trust starts from (the token's pin covers both)."""

    device: str = Field(examples=["dv_0199c0ffee000123456789"])
    image_root: str = Field(description="Exact bytes of the image repository's first root document, in base64.")
    director_root: str = Field(description="Exact bytes of the director's first root document, in base64.")


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


def _takes(description: str, media_type: str = "application/json") -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "object", "description": description}}}
    return {"requestBody": {"required": True, "content": content}}


@router.post(
    "/enrol",
    status_code=201,
    openapi_extra=_takes("token, csr_pem (P-256), name, profile, labels; `device_agent/protocol/messages.py`"),
)
def enrol(raw: Annotated[bytes, Depends(_enrolment_body)], services: ServicesDep) -> EnrolledDevice:
    """Turn a machine that shows a one-time token into a device."""
    device_id = enrol_device(services.database, EnrolmentRequest.parse(raw), now=services.clock())
    return EnrolledDevice(
        device=device_id,
        image_root=base64.b64encode(services.image_repository.roots.first_bytes()).decode(),
        director_root=base64.b64encode(services.director_root).decode(),
    )


@router.get("/challenge")
def challenge(services: ServicesDep) -> Challenge:
    """Return a challenge. Nothing is stored for it."""
    return Challenge(challenge=services.sessions.issue_challenge(services.clock()))


@router.post(
    "/session",
    openapi_extra=_takes("DSSE envelope over the device's id and a challenge, signed with the device's key"),
)
def session(raw: Annotated[bytes, Depends(_session_body)], services: ServicesDep) -> OpenedSession:
    """Open a session for a device that signs a challenge with the key it was enrolled with."""

    def public_key_of(device_id: str) -> str | None:
        with services.database.reading() as tx:
            return devices.public_key_of(tx, device_id)

    opened = services.sessions.open_session(raw, public_key_of, services.clock())
    if isinstance(opened, Refusal):
        raise NotAllowed(opened.detail, code=opened.code)
    return OpenedSession(token=opened.token, expires_s=opened.expires_s)


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
        400: {"description": "The batch can never be accepted; drop it"},
        401: {"description": "The session is over; open a new one"},
        503: {"description": "Come again after Retry-After seconds"},
    },
)
async def reports(request: Request) -> Response:
    """Take a batch of reports. Each batch is applied once, so sending it again is harmless."""
    return _AnsweredBy(ReportsHandler(request.app.state.hot_path))
