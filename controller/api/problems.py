"""The one table from refusals to HTTP: RFC 9457 problem documents.

Every refusal carries a stable `code`, the detail with value and remedy, and a JSON pointer to the field where
there is one. What is not in the table is a fault of ours: 500, with the request id under which it is logged.
"""

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from controller.domain.errors import (
    Conflict,
    EdgefleetError,
    Forbidden,
    InvalidInput,
    NotAllowed,
    NotFound,
    Unavailable,
)
from device_agent.protocol.errors import ProtocolError

STATUS_OF: dict[type[EdgefleetError], int] = {
    InvalidInput: 422,
    NotFound: 404,
    Conflict: 409,
    NotAllowed: 401,
    Forbidden: 403,
    Unavailable: 503,
}
STATUS_OF_CODE = {"too_large": 413, "disk_full": 507, "bad_query": 400}
"""Codes whose HTTP status says more than their class's."""
RETRY_AFTER_S = "5"
_log = structlog.get_logger()


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of the application leave as a problem document."""
    app.add_exception_handler(EdgefleetError, _refused)
    app.add_exception_handler(ProtocolError, _malformed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)


def problem(
    status: int, code: str, detail: str, *, pointer: str | None = None, errors: list[dict[str, str]] | None = None
) -> Response:
    """Return a problem document; `errors` lists every field at fault, `pointer` names a single one."""
    body = {
        "type": f"urn:edgefleet:problem:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "code": code,
        "detail": detail,
        "errors": errors or ([{"pointer": pointer, "detail": detail}] if pointer else []),
        "request_id": structlog.contextvars.get_contextvars().get("request_id"),
    }
    headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def status_of(error: EdgefleetError) -> int:
    """Return the HTTP status of a refusal."""
    by_class = next(status for kind, status in STATUS_OF.items() if isinstance(error, kind))
    return STATUS_OF_CODE.get(error.code, by_class)


async def _refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, EdgefleetError):
        raise error
    return problem(status_of(error), error.code, error.detail, pointer=error.field)


async def _malformed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ProtocolError):
        raise error
    return problem(400, error.label, str(error))


async def _invalid(_request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [
        {"pointer": "/" + "/".join(str(part) for part in found["loc"][1:]), "detail": _sentence(dict(found))}
        for found in error.errors()
    ]
    return problem(422, "invalid_input", "; ".join(e["detail"] for e in errors), errors=errors)


def _sentence(found: dict[str, object]) -> str:
    location = found["loc"]
    name = ".".join(str(part) for part in location[1:]) if isinstance(location, tuple) else "body"
    shown = repr(found.get("input"))
    return f"{name or 'the body'}: {found['msg']} (got {shown if len(shown) < 80 else shown[:77] + '...'})"


async def _http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "method_not_allowed", 401: "not_allowed"}.get(error.status_code, "http_error")
    return problem(error.status_code, code, str(error.detail))


async def _fault(request: Request, error: Exception) -> Response:
    _log.error("request failed", path=request.url.path, exc_info=error)
    return problem(500, "internal_error", "an internal fault; the log has it under this request id")
