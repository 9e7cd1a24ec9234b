"""How the signer and its clients talk: a length of four bytes, then JSON; bytes travel as {"$b": base64}.

request   {"verb": name, "arguments": {...}}
answer    {"value": ...} | {"error": {"kind", "code", "detail"}}
"""

import base64
import json
import socket
import struct
import time
from typing import Any

FRAME_BYTES_MAX = 8 * 1024**2
_LENGTH = struct.Struct(">I")
_BYTES = "$b"


class MalformedFrame(Exception):
    """What came is no frame; nothing of its content is in the text."""


def send_frame(connection: socket.socket, value: object) -> None:
    """Send one value. MalformedFrame where it is larger than a frame."""
    content = json.dumps(_packed(value), separators=(",", ":")).encode()
    if len(content) > FRAME_BYTES_MAX:
        raise MalformedFrame(f"{len(content)} bytes; at most {FRAME_BYTES_MAX}")
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive_frame(connection: socket.socket, idle_s: float, frame_s: float) -> Any:
    """Return the next value, None where the other side has closed in order.

    TimeoutError when nothing comes for `idle_s`, or a frame that has begun is not whole after `frame_s`.
    """
    connection.settimeout(idle_s)
    first = connection.recv(1)
    if not first:
        return None
    ends = time.monotonic() + frame_s
    (length,) = _LENGTH.unpack(first + _exactly(connection, _LENGTH.size - 1, ends))
    if length > FRAME_BYTES_MAX:
        raise MalformedFrame(f"{length} bytes; at most {FRAME_BYTES_MAX}")
    content = _exactly(connection, length, ends)
    connection.settimeout(frame_s)
    try:
        return _unpacked(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise MalformedFrame(f"{length} bytes that are not JSON of ours") from error


def _exactly(connection: socket.socket, length: int, ends: float) -> bytes:
    received = bytearray()
    while len(received) < length:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{len(received)} of {length} bytes came in time")
        connection.settimeout(left)
        piece = connection.recv(min(length - len(received), 256 * 1024))
        if not piece:
            raise MalformedFrame(f"it ends after {len(received)} of {length} bytes")
        received += piece
    return bytes(received)


def _packed(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_packed(item) for item in value]
    if isinstance(value, dict):
        return {name: _packed(item) for name, item in value.items()}
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(item) for item in value]
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            if not isinstance(value[_BYTES], str):
                raise ValueError("bytes travel as base64")
            return base64.b64decode(value[_BYTES], validate=True)
        return {name: _unpacked(item) for name, item in value.items()}
    return value
