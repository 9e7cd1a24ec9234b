"""Gives every request an id that its log lines, its problem documents and its response carry."""

import re
import secrets
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_log = structlog.get_logger()


class RequestContext:
    """Pure ASGI: the usual middleware base class would cost more than most requests."""

    def __init__(self, app: ASGIApp, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """Wrap the application; `headers` go out with every answer."""
        self._app = app
        self._headers = tuple(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the caller's X-Request-Id where it is a plain one, else make one; log the end of the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        shown = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = shown if ID.fullmatch(shown) else secrets.token_hex(8).encode()
        status: MutableMapping[str, Any] = {"code": 500}

        async def tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                status["code"] = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id), *self._headers]
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id.decode()):
            try:
                await self._app(scope, receive, tagged)
            finally:
                milliseconds = round((time.perf_counter() - started) * 1000, 1)
                line = {"method": scope["method"], "path": scope["path"], "status": status["code"]}
                _log.debug("request", **line, duration_ms=milliseconds)
