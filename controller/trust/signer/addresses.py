"""Unix sockets below any folder: the kernel takes paths of at most 107 bytes (unix(7)), folders know no such bound."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATH_BYTES_MAX = 100


@contextmanager
def _short(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
        return
    # A long folder is opened, and named by the number under which it is open.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen_at(path: Path, backlog: int) -> socket.socket:
    """Return a listening socket that its owner and its group may connect to."""
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)
    try:
        with _short(path) as address:
            listening.bind(address)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(before)
    listening.listen(backlog)
    return listening


def connect_to(path: Path, timeout_s: float) -> socket.socket:
    """Return a connection. OSError where nobody listens."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_s)
    try:
        with _short(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection
