"""A TCP link on loopback that counts the bytes towards the device and can be held at a mark."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE_BYTES = 16_384


class MeteredLink:
    """Leads to a controller. Use it as a context manager."""

    def __init__(self, controller_url: str) -> None:
        target = urlsplit(controller_url)
        self._target = (target.hostname, target.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.carried_bytes = 0
        """What came from the controller so far, over all connections."""
        self._held_at: float = float("inf")
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        # Closing alone does not wake the thread that accepts.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def hold_after(self, more_bytes: int) -> None:
        """Let this many bytes pass, and then none until `open`."""
        with self._changed:
            self._held_at = self.carried_bytes + more_bytes

    def open(self) -> None:
        """Let everything pass."""
        with self._changed:
            self._held_at = float("inf")
            self._changed.notify_all()

    def is_held(self) -> bool:
        """Tell whether the mark is reached."""
        return self.carried_bytes >= self._held_at

    def _accept(self) -> None:
        with suppress(OSError):  # the end of the listening socket
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, metered: bool) -> None:
        with suppress(OSError):  # either side hung up
            while piece := source.recv(PIECE_BYTES):
                if metered:
                    self._count(len(piece))
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _count(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.carried_bytes < self._held_at)
            self.carried_bytes += count
