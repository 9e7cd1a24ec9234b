"""The signer as its clients see it: the same verbs, through a Unix socket."""

import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signature

from controller.trust.custody.keys import KeyName
from controller.trust.errors import SignerUnavailable
from controller.trust.signer.addresses import connect_to
from controller.trust.signer.calls import VERBS, raised
from controller.trust.signer.frames import MalformedFrame, receive_frame, send_frame
from controller.trust.signer.interface import KeyWish, StatementKind

CONNECT_S = 2.0
ANSWER_S = 30.0
IDLE_CONNECTIONS = 4
BATCH_BYTES_MAX = 4 * 1024**2
"""Payloads in one request; with base64 and the envelopes of the answer that stays well within a frame."""
BATCH_MAX = 2000


class RemoteSigner:
    """An OnlineSigner in another process. Safe to share between threads; connects anew when that one was restarted."""

    def __init__(self, path: Path) -> None:
        """Name the socket; nothing is connected yet."""
        self._path = path
        self._idle: deque[socket.socket] = deque()

    def __del__(self) -> None:
        self.close()

    def public_key(self, name: KeyName) -> Key:
        """Return the public key of this name."""
        found: Key = self._call("public_key", name=name)
        return found

    def public_keys(self, name: KeyName) -> list[Key]:
        """Return the present key of this name and its successor where one is prepared."""
        found: list[Key] = self._call("public_keys", name=name)
        return found

    def sign_role(self, role: str, signed: bytes, keyids: Sequence[str] = ()) -> Signature:
        """Sign a role of the image repository."""
        made: Signature = self._call("sign_role", role=role, signed=signed, keyids=list(keyids))
        return made

    def sign_assignments(self, payloads: Sequence[bytes], approvals: Sequence[bytes] = ()) -> list[bytes]:
        """Return the envelopes of these assignments, in order; all or none."""
        envelopes: list[bytes] = []
        for batch in _batches(payloads):
            envelopes += self._call("sign_assignments", payloads=batch, approvals=list(approvals))
        return envelopes

    def sign_time(self, nonce: str) -> bytes:
        """Return the signed time."""
        return bytes(self._call("sign_time", nonce=nonce))

    def issue_certificate(self, device: str, public_key_pem: str) -> bytes:
        """Return a certificate for a device's P-256 key."""
        return bytes(self._call("issue_certificate", device=device, public_key_pem=public_key_pem))

    def ca_certificate(self) -> bytes:
        """Return the device CA's certificate."""
        return bytes(self._call("ca_certificate"))

    def sign_statement(self, kind: StatementKind, statement: bytes) -> bytes:
        """Return the envelope of an in-toto statement."""
        return bytes(self._call("sign_statement", kind=kind, statement=statement))

    def content_key(self, key_id: str) -> bytes:
        """Return the content key of this name."""
        return bytes(self._call("content_key", key_id=key_id))

    def wrap_content_keys(self, wishes: Sequence[KeyWish]) -> list[str]:
        """Return each key wrapped for its device, in order."""
        wrapped: list[str] = []
        for start in range(0, len(wishes), BATCH_MAX):
            batch = wishes[start : start + BATCH_MAX]
            wrapped += self._call("wrap_content_keys", wishes=[list(wish) for wish in batch])
        return wrapped

    def journal_head(self) -> str:
        """Return the sha256 of the journal's last line."""
        return str(self._call("journal_head"))

    def newest_versions(self) -> dict[str, int]:
        """Return the highest version that was ever signed of each role."""
        return dict(self._call("newest_versions"))

    def anchor_audit(self, seq: int, sha256: str) -> None:
        """Write the head of the audit log into the journal."""
        self._call("anchor_audit", seq=seq, sha256=sha256)

    def audit_anchors(self) -> list[tuple[int, str]]:
        """Return the heads of the audit log that the journal holds, oldest first."""
        return list(self._call("audit_anchors"))

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _call(self, verb: str, **arguments: Any) -> Any:
        request = {"verb": verb, "arguments": arguments}
        with suppress(IndexError):
            # A connection that the signer has closed meanwhile says nothing about the signer of today.
            answer = self._ask(self._idle.pop(), request)
            if answer is not None:
                return self._value(verb, answer)
        answer = self._ask(self._connected(), request)
        if answer is None:
            raise SignerUnavailable(
                f"the signer at {self._path} ended before it answered; the same call may be made again"
            )
        return self._value(verb, answer)

    def _ask(self, connection: socket.socket, request: dict[str, Any]) -> Any:
        """Return the answer, None where the connection was lost. Every verb may be asked for again."""
        try:
            connection.settimeout(ANSWER_S)
            send_frame(connection, request)
            answer = receive_frame(connection, ANSWER_S, ANSWER_S)
        except TimeoutError as error:
            connection.close()
            raise SignerUnavailable(f"the signer at {self._path} did not answer within {ANSWER_S:g} s") from error
        except (OSError, MalformedFrame):
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
        if answer is None or len(self._idle) >= IDLE_CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)
        return answer

    def _connected(self) -> socket.socket:
        try:
            return connect_to(self._path, CONNECT_S)
        except OSError as error:
            raise SignerUnavailable(
                f"no signer answers at {self._path} ({error.strerror or error}); start it: edgefleet signer start "
                f"--socket {self._path}"
            ) from error

    def _value(self, verb: str, answer: Any) -> Any:
        if "error" in answer:
            raise raised(answer["error"])
        return VERBS[verb].unpack(answer["value"])


def _batches(payloads: Sequence[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for payload in payloads:
        if batch and (size + len(payload) > BATCH_BYTES_MAX or len(batch) == BATCH_MAX):
            yield batch
            batch, size = [], 0
        batch.append(payload)
        size += len(payload)
    if batch:
        yield batch
