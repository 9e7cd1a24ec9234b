"""The signer's side of the socket: who may ask, one thread a connection, and nothing that an asker can break."""

import socket
import struct
import threading
from collections.abc import Collection
from contextlib import suppress

import structlog

from controller.trust.signer.calls import answer
from controller.trust.signer.frames import MalformedFrame, receive_frame, send_frame
from controller.trust.signer.interface import OnlineSigner

CONNECTIONS_MAX = 64
IDLE_S = 60.0
"""How long a connection may ask for nothing; clients connect again."""
FRAME_S = 10.0
LOOK_S = 1.0
_PEER = struct.Struct("3i")
_log = structlog.get_logger()


class SignerServer:
    """Answers on a listening socket until it is stopped."""

    def __init__(
        self, signer: OnlineSigner, listening: socket.socket, uids: Collection[int], *, frame_s: float = FRAME_S
    ) -> None:
        """Take the verbs, the socket and the accounts that may ask."""
        self._signer = signer
        self._listening = listening
        self._uids = frozenset(uids)
        self._frame_s = frame_s
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._stopping = threading.Event()

    def serve(self) -> None:
        """Accept connections until `stop`; with all in use the next one waits."""
        while not self._stopping.is_set():
            if not self._free.acquire(timeout=LOOK_S):
                continue
            try:
                connection, _ = self._listening.accept()
            except OSError:
                self._free.release()
                if not self._stopping.is_set():
                    raise
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """Take no further connection."""
        self._stopping.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection:
                pid, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
                if uid not in self._uids:
                    _log.warning("a connection was refused: its account may not ask", uid=uid, pid=pid)
                    return
                while self._answer_next(connection, uid):
                    pass
        finally:
            self._free.release()

    def _answer_next(self, connection: socket.socket, uid: int) -> bool:
        try:
            request = receive_frame(connection, IDLE_S, self._frame_s)
            if request is None:
                return False
            if not isinstance(request, dict) or request.keys() != {"verb", "arguments"}:
                raise MalformedFrame("it is no request")  # noqa: TRY301
            send_frame(connection, answer(self._signer, request))
        except TimeoutError:
            return False
        except MalformedFrame as error:
            _log.warning("a connection was closed: what it sent is malformed", uid=uid, reason=str(error))
            return False
        except OSError:
            return False
        except Exception:  # noqa: BLE001  # whatever it was, the next asker is answered
            _log.exception("the signer failed at a request; the connection is closed")
            return False
        return True


def uids_from(text: str) -> frozenset[int]:
    """Return the accounts in `10001,10002`; ValueError for anything but numbers."""
    return frozenset(int(part) for part in text.replace(",", " ").split())
