"""The signer's journal: what was signed, one line each, appended before the signature is given away.

    {"at", "digest", "kind", "number", "previous", "seq", "sha256", "subject"}

A line's `sha256` covers the rest of the line, `previous` is that of the line before: a line that is changed, removed or
inserted breaks the chain, and the signer does not start. A last line without its end is what a loss of power leaves; it
was never acted on and is cut off. Several processes may append to one journal: each catches up under a lock first.
"""

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from controller.trust.durable_files import flush_directory
from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from device_agent.protocol.fields import format_utc

GENESIS = "0" * 64
_FIELDS = {"at", "digest", "kind", "number", "previous", "seq", "sha256", "subject"}


class Kind(StrEnum):
    """What a line tells of, with what `subject`, `number` and `digest` are."""

    ROLE = "role"
    """Role, version, sha256 of the signed part."""
    ASSIGNMENTS = "assignments"
    """Empty, how many, sha256 over their sha256 in order."""
    CERTIFICATE = "certificate"
    """Device, 0, sha256 of its public key."""
    STATEMENT = "statement"
    """Kind of statement, 0, sha256 of the statement."""
    CONTENT_KEY = "content_key"
    """Name of a content key that a worker was given, 0, sha256 of the name."""
    WRAPPED_KEYS = "wrapped_keys"
    """Empty, how many, sha256 over lines of `name|manifest|device|public key`."""
    AUDIT = "audit"
    """Empty, number of the newest entry of the audit log, its sha256."""
    PIN = "pin"
    """`image` or `director`, 1, sha256 of the first root that this signer has worked under."""


@dataclass(frozen=True)
class Entry:
    """What one line tells."""

    kind: Kind
    subject: str
    number: int
    digest: str


class _State:
    """What the lines up to `size` say together."""

    def __init__(self) -> None:
        self.seq = 0
        self.head = GENESIS
        self.size = 0
        self.roles: dict[str, tuple[int, str]] = {}
        self.pins: dict[str, str] = {}
        self.anchors: list[tuple[int, str]] = []

    def take(self, entry: Entry, seq: int, sha256: str, size: int) -> None:
        self.seq, self.head = seq, sha256
        self.size += size
        if entry.kind is Kind.ROLE:
            self.roles[entry.subject] = entry.number, entry.digest
        elif entry.kind is Kind.PIN:
            self.pins[entry.subject] = entry.digest
        elif entry.kind is Kind.AUDIT:
            self.anchors.append((entry.number, entry.digest))


class Journal:
    """The journal in one file. Safe to share between threads, and between processes on one machine."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        """Open the file, made when it is missing, and check all of it. KeyStoreError where it was edited."""
        self._path = path
        self._clock = clock
        self._state = _State()
        self._lock = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise KeyStoreError(f"the signer's journal {path} cannot be opened: {error.strerror}") from error
        flush_directory(path.parent)
        with self._newest():
            pass

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    @property
    def head(self) -> str:
        """The sha256 of the last line, GENESIS of an empty journal."""
        with self._newest() as state:
            return state.head

    def versions(self) -> dict[str, int]:
        """Return the highest version of each role."""
        with self._newest() as state:
            return {role: version for role, (version, _) in state.roles.items()}

    def anchors(self) -> list[tuple[int, str]]:
        """Return the heads of the audit log, oldest first."""
        with self._newest() as state:
            return list(state.anchors)

    def record(self, kind: Kind, subject: str, number: int, digest: str) -> None:
        """Append a line; return when it is on the disk."""
        with self._newest() as state:
            self._append(state, Entry(kind, subject, number, digest))

    def record_role(self, role: str, version: int, digest: str) -> None:
        """Append a version of a role; SignerRefused when it is not above the last. The very same content passes."""
        with self._newest() as state:
            last, known = state.roles.get(role, (0, ""))
            if (version, digest) == (last, known):
                return
            if version <= last:
                what = "was signed with other content" if version == last else f"is below {last}, signed before"
                raise SignerRefused(
                    f"{role} version {version} {what}; versions never repeat: take one above {last}",
                    code=SignerCode.ROLLBACK,
                )
            self._append(state, Entry(Kind.ROLE, role, version, digest))

    def record_anchor(self, seq: int, sha256: str) -> None:
        """Append a head of the audit log; SignerRefused for one behind the last, or another of the same number."""
        with self._newest() as state:
            last, known = state.anchors[-1] if state.anchors else (0, "")
            if (seq, sha256) == (last, known):
                return
            if seq <= last:
                raise SignerRefused(
                    f"the audit log's head is entry {seq}; entry {last} was anchored before: entries are missing",
                    code=SignerCode.ROLLBACK,
                )
            self._append(state, Entry(Kind.AUDIT, "", seq, sha256))

    def pin(self, chain: str, sha256: str) -> bool:
        """Remember the first root of a chain; tell whether it is the one that was remembered."""
        with self._newest() as state:
            if chain not in state.pins:
                self._append(state, Entry(Kind.PIN, chain, 1, sha256))
            return state.pins[chain] == sha256

    @contextmanager
    def _newest(self) -> Iterator[_State]:
        """Hold the journal alone, with every line read that anybody has written."""
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._catch_up()
                yield self._state
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        size = os.fstat(self._file).st_size
        if size < self._state.size:
            raise KeyStoreError(f"{self._path} has lost lines that this signer has written; it signs no more")
        if size == self._state.size:
            return
        content = os.pread(self._file, size - self._state.size, self._state.size)
        while len(content) < size - self._state.size:
            more = os.pread(self._file, size - self._state.size - len(content), self._state.size + len(content))
            content += more
        *lines, torn = content.split(b"\n")
        for line in lines:
            self._take(line)
        if torn:
            os.ftruncate(self._file, self._state.size)
            os.fsync(self._file)

    def _take(self, line: bytes) -> None:
        state = self._state
        try:
            body = json.loads(line)
            if body.keys() != _FIELDS or body["seq"] != state.seq + 1 or body["previous"] != state.head:
                raise ValueError("it does not follow the line before it")  # noqa: TRY301
            sha256 = body.pop("sha256")
            if sha256 != _hash(body) or _line(body, sha256) != line + b"\n":
                raise ValueError("it was changed after it was written")  # noqa: TRY301
            entry = Entry(Kind(body["kind"]), body["subject"], body["number"], body["digest"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KeyStoreError(
                f"{self._path}, line {state.seq + 1}: {error}. A journal that was edited proves nothing: find out who "
                f"wrote to it; then replace the online keys and begin with a new signer folder"
            ) from error
        state.take(entry, body["seq"], sha256, len(line) + 1)

    def _append(self, state: _State, entry: Entry) -> None:
        body: dict[str, Any] = {
            "at": format_utc(self._clock()),
            "digest": entry.digest,
            "kind": entry.kind,
            "number": entry.number,
            "previous": state.head,
            "seq": state.seq + 1,
            "subject": entry.subject,
        }
        sha256 = _hash(body)
        line = _line(body, sha256)
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes fitted")  # noqa: TRY301
            os.fsync(self._file)
        except OSError as error:
            # What may be half there goes, so that the next line follows a whole one.
            with suppress(OSError):
                os.ftruncate(self._file, state.size)
            raise KeyStoreError(f"the signer's journal cannot be written: {error}; nothing was signed") from error
        state.take(entry, body["seq"], sha256, len(line))


def _hash(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _line(body: dict[str, Any], sha256: str) -> bytes:
    return json.dumps({**body, "sha256": sha256}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
