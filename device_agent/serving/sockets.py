"""The listening sockets of the inference process."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path


def listen_tcp(address: str) -> socket.socket:
    """Return a socket that listens on `HOST:PORT`, port 0 taking a free one.

    Raises ValueError when the text has another form, OSError when the address cannot be had.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise ValueError("expected HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family)


def address_of(listening: socket.socket) -> str:
    """Return `HOST:PORT` of a TCP socket, as clients write it."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextlib.contextmanager
def listen_unix(path: Path) -> Iterator[socket.socket]:
    """Listen at `path`, for this user alone; take the path from a process that died, and leave it clean.

    The socket listens under another name before it takes the path in one rename, so whoever connects there
    finds either the old process or this one, never a socket that nobody listens on yet.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(os.fspath(unfinished))
        unfinished.chmod(0o600)
        listening.listen()
        ours = unfinished.stat().st_ino
        unfinished.replace(path)
        try:
            yield listening
        finally:
            # A successor may have taken the path meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == ours:
                    path.unlink()
