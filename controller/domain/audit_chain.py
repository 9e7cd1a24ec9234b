"""The audit log as a chain: each entry's hash covers the entry before it.

The hash is sha256 over the canonical JSON of the entry (sorted keys, no spaces) with `previous` in it; the first
entry's `previous` is GENESIS. Changing, removing or inserting an entry breaks the chain at that place; cutting entries
off at the end shows against the heads that the signer's journal holds.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to which thing."""

    seq: int
    """Counts from 1 without gaps."""
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str


def entry_hash(entry: AuditEntry) -> str:
    """Return the entry's sha256, hexadecimal."""
    body = {**vars(entry), "at": entry.at.isoformat()}
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class Break:
    """Where the chain does not hold, and why."""

    seq: int
    reason: str


@dataclass(frozen=True)
class Unbroken:
    """The chain holds from its first entry to this one."""

    seq: int
    sha256: str


@dataclass(frozen=True)
class Anchor:
    """A head of the log that is kept somewhere else, such as in the signer's journal."""

    seq: int
    sha256: str


def check_chain(entries: Iterable[tuple[AuditEntry, str]], anchors: Iterable[Anchor] = ()) -> Unbroken | Break:
    """Check entries with their stored hashes, in order from the first, and that the log holds every anchor."""
    anchored: dict[int, set[str]] = {}
    for anchor in anchors:
        anchored.setdefault(anchor.seq, set()).add(anchor.sha256)
    seq, previous = 0, GENESIS
    for entry, stored in entries:
        if entry.seq != seq + 1:
            return Break(seq + 1, f"entry {seq + 1} is missing; entry {entry.seq} follows entry {seq}")
        if entry.previous != previous:
            return Break(entry.seq, f"entry {entry.seq} does not follow the entry before it")
        if entry_hash(entry) != stored:
            return Break(entry.seq, f"entry {entry.seq} was changed after it was written")
        seq, previous = entry.seq, stored
        if anchored.get(seq, {stored}) != {stored}:
            return Break(seq, f"entry {seq} is not the one that was anchored: the log up to it was written anew")
    missing = max(anchored, default=0)
    if missing > seq:
        return Break(seq + 1, f"entries {seq + 1} to {missing} are missing: entry {missing} was anchored")
    return Unbroken(seq, previous)


def read_entry(document: Mapping[str, Any]) -> tuple[AuditEntry, str]:
    """Return an exported entry and its stored hash; ValueError, TypeError or KeyError for what is no entry."""
    fields = {name: document[name] for name in ("actor", "action", "subject", "detail", "previous")}
    return AuditEntry(int(document["seq"]), datetime.fromisoformat(document["at"]), **fields), str(document["sha256"])
