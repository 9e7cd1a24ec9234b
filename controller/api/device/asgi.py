"""The two calls that devices make all the time, as plain ASGI in front of the application.

FastAPI's own dispatch costs several times what these handlers do. `routes.py` describes both calls in the schema
and serves them too, through these handlers, for whoever runs the application without the dispatcher.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from controller.api.device.hot_path import HotPath
from controller.api.device.poll_cache import etag_of
from controller.api.device.report_checks import SentReport
from controller.api.problems import problem, status_of
from controller.domain.errors import EdgefleetError
from controller.domain.ids import DeviceId
from controller.trust.errors import RefusalCode
from controller.use_cases.record_reports import Receipt
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.messages import REPORT_BYTES_MAX, SIGNATURE_HEADER

ASSIGNMENT_PATH = "/device/v1/assignment"
REPORTS_PATH = "/device/v1/reports"

_JSON = (b"content-type", b"application/json")
_SIGNATURE = SIGNATURE_HEADER.lower().encode()
_REFUSED: dict[Receipt, tuple[int, str, str]] = {
    Receipt.DEVICE_UNKNOWN: (401, "session_over", "no session, or it is over; open a new one"),
    Receipt.DEVICE_REVOKED: (401, RefusalCode.DEVICE_REVOKED, "this device was revoked; enrol it anew, with a new key"),
    Receipt.REPLAY: (409, RefusalCode.REPORT_REPLAY, "this batch was taken before, and later ones after it; drop it"),
    Receipt.CLONE_SUSPECTED: (
        409,
        RefusalCode.CLONE_SUSPECTED,
        "two machines seem to have this device's key; its reports wait for an operator's decision",
    ),
}
"""How the API says no to a report."""


class DeviceDispatch:
    """An ASGI application that answers polls and reports itself and hands everything else on."""

    def __init__(self, app: ASGIApp, hot: HotPath) -> None:
        """Take the application behind it; the lifespan passes through to it."""
        self._app = app
        self._handlers: dict[tuple[str, str], ASGIApp] = {
            ("GET", ASSIGNMENT_PATH): AssignmentHandler(hot),
            ("POST", REPORTS_PATH): ReportsHandler(hot),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_http = scope["type"] == "http"
        handler = self._handlers.get((scope["method"], scope["path"]), self._app) if is_http else self._app
        await handler(scope, receive, send)


class AssignmentHandler:
    """GET assignment: 304 while the device has the good one, else 200 with the signed envelope."""

    def __init__(self, hot: HotPath) -> None:
        """Take the shared parts."""
        self._hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one poll."""
        authorization, if_none_match = _read_headers(scope)
        now = self._hot.clock()
        device_id = self._hot.identify(authorization, now)
        if device_id is None:
            await _no_session(scope, receive, send)
        elif if_none_match and self._hot.good_etag(device_id, now) == if_none_match:
            # Nearly every request of a fleet ends here.
            await send({"type": "http.response.start", "status": 304, "headers": [(b"etag", if_none_match)]})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._answer_from_database(device_id, if_none_match, scope, receive, send)

    async def _answer_from_database(
        self, device_id: DeviceId, if_none_match: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            current = await self._hot.assignment(device_id)
        except EdgefleetError as error:
            await _refuse(error, scope, receive, send)
            return
        if current is None:
            await _no_session(scope, receive, send)
            return
        etag = etag_of(current.counter)
        if etag == if_none_match:
            await _answer(send, 304, [(b"etag", etag)])
        else:
            await _answer(send, 200, [(b"etag", etag), _JSON], current.envelope)


class ReportsHandler:
    """POST reports: 200 once the batch is durable, 400, 403 or 409 when it can never be accepted."""

    def __init__(self, hot: HotPath) -> None:
        """Take the shared parts."""
        self._hot = hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one batch of reports."""
        authorization, _ = _read_headers(scope)
        device_id = self._hot.identify(authorization, self._hot.clock())
        if device_id is None:
            await _no_session(scope, receive, send)
            return
        try:
            body = await read_body(receive, REPORT_BYTES_MAX)
            receipt = await self._hot.report(SentReport(device_id, body, _header(scope, _SIGNATURE)))
        except ProtocolError as error:
            await problem(400, error.label, str(error))(scope, receive, send)
        except EdgefleetError as error:
            await _refuse(error, scope, receive, send)
        else:
            refused = _REFUSED.get(receipt)
            if refused:
                await problem(*refused)(scope, receive, send)
            else:
                await _answer(send, 200, [_JSON], b"{}")


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """Return the request's body; ProtocolError as soon as it is longer than allowed, or is broken off."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProtocolError(Code.NETWORK, "the connection ended within the body", role="body")
        body += message.get("body", b"")
        if len(body) > bytes_max:
            raise ProtocolError(Code.ENDLESS_DATA, f"more than {bytes_max} bytes", role="body")
        if not message.get("more_body"):
            return bytes(body)


def _read_headers(scope: Scope) -> tuple[bytes, bytes]:
    """Return the Authorization header and the entity tag, empty where they are missing."""
    authorization = if_none_match = b""
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
        elif name == b"if-none-match":
            # A proxy that compresses answers marks their tags as weak.
            if_none_match = value.removeprefix(b"W/")
    return authorization, if_none_match


def _header(scope: Scope, name: bytes) -> bytes:
    """Return a header's value, empty where it is missing."""
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(error: EdgefleetError, scope: Scope, receive: Receive, send: Send) -> None:
    await problem(status_of(error), error.code, error.detail)(scope, receive, send)


async def _no_session(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = problem(401, "session_over", "no session, or it is over; open a new one")
    await refusal(scope, receive, send)
