"""HTTP/1.1 messages as values: bytes of a head to a Head, a Response to bytes. No I/O.

The subset is what inference clients use: bodies have a Content-Length (RFC 9112 section 6); a transfer
coding is answered with 411, and anything that two readers could frame differently with 400.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from device_agent.serving.errors import RequestRefused

JSON_TYPE = "application/json"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {int(status): f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Request(NamedTuple):
    """One complete request. Header names are in lower case; `path` has no query and is still quoted."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Response(NamedTuple):
    """What to answer. `headers` come on top of Content-Length, Content-Type and Connection."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


def error_response(status: int, message: str, *headers: tuple[str, str]) -> Response:
    """Return an error in the form of the Open Inference Protocol: `{"error": "..."}`."""
    return Response(status, json.dumps({"error": message}).encode(), headers=headers)


@dataclass(frozen=True, slots=True)
class Head:
    """The part of a request before its body."""

    method: str
    path: str
    headers: dict[str, str]
    body_bytes: int
    keep_alive: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends the body (RFC 9110 section 10.1.1)."""
        return self.headers.get("expect", "").lower() == "100-continue"


def parse_head(raw: bytes, *, body_bytes_max: int) -> Head:
    """Read a head up to and including its empty line.

    Raises RequestRefused with 400 (cannot be framed safely), 411 (transfer coding) or 413 (body too large).
    """
    request_line, *lines = raw[:-4].decode("latin-1").split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise RequestRefused(400, f"request line is {request_line[:80]!r}; expected METHOD PATH HTTP/1.1")
    method, target, protocol = parts
    headers = _parse_headers(lines)
    if "transfer-encoding" in headers:
        raise RequestRefused(411, "transfer-encoding is not supported; send the body with a content-length")
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        raise RequestRefused(400, f"content-length is {length[:80]!r}; expected a whole number of bytes")
    # More digits than any size has would be slow to convert.
    if len(length) > 18 or int(length) > body_bytes_max:
        raise RequestRefused(413, f"body has {length[:80]} bytes; at most {body_bytes_max}")
    keep_alive = protocol == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    return Head(method, target.partition("?")[0], headers, int(length), keep_alive)


def _parse_headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # Space before the colon or at the start of a line (folding) is how requests are smuggled.
        if not colon or not name or " " in name or "\t" in name:
            raise RequestRefused(400, f"header line is {line[:80]!r}; expected NAME: VALUE")
        name, value = name.lower(), value.strip()
        # Two lengths become one that is not a number, and are refused as such.
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def render_response(response: Response, *, keep_alive: bool, with_body: bool = True) -> bytes:
    """Return the bytes of a response; without its body for a HEAD request."""
    extra = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
    connection = "" if keep_alive else "connection: close\r\n"
    head = (
        f"{_STATUS_LINES[response.status]}content-type: {response.content_type}\r\n"
        f"content-length: {len(response.body)}\r\n{extra}{connection}\r\n"
    )
    return head.encode("latin-1") + (response.body if with_body else b"")
