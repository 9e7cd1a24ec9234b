"""The audit log: appended to in the transaction of what it tells of, and read back to be checked."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update

from controller.domain.audit_chain import AuditEntry, Unbroken, entry_hash
from controller.store.database import Transaction
from controller.store.trust_tables import audit_entry, audit_head

_PAGE = 1000


def record_audit(
    tx: Transaction, now: datetime, actor: str, action: str, subject: str, detail: dict[str, Any] | None = None
) -> int:
    """Append an entry; return its number. Locks the head of the log until the commit, so call it late.

    `detail` is small and holds no secret; `action` reads like `rollout.approved`. Call it before `record_change`,
    which locks last of all.
    """
    head = tx.execute(select(audit_head.c.seq, audit_head.c.sha256).where(audit_head.c.id == 1).with_for_update()).one()
    # In UTC, as it is read back: the hash covers the moment as it is written.
    entry = AuditEntry(head.seq + 1, now.astimezone(UTC), actor, action, subject, detail or {}, head.sha256)
    sha256 = entry_hash(entry)
    tx.execute(insert(audit_entry).values({**vars(entry), "sha256": sha256}))
    tx.execute(update(audit_head).where(audit_head.c.id == 1).values(seq=entry.seq, sha256=sha256))
    return entry.seq


def audit_head_of(tx: Transaction) -> Unbroken:
    """Return the number and hash of the newest entry as the log itself holds them."""
    head = tx.execute(select(audit_head.c.seq, audit_head.c.sha256).where(audit_head.c.id == 1)).one()
    return Unbroken(head.seq, head.sha256)


def audit_page(tx: Transaction, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return the entries behind a number as documents, in order."""
    query = select(audit_entry).where(audit_entry.c.seq > after).order_by(audit_entry.c.seq).limit(limit)
    return [dict(row) for row in tx.execute(query).mappings()]


def audit_entries(tx: Transaction, *, after: int = 0) -> Iterator[tuple[AuditEntry, str]]:
    """Yield the entries behind a number with their stored hashes, in order, a page at a time."""
    while True:
        query = select(audit_entry).where(audit_entry.c.seq > after).order_by(audit_entry.c.seq).limit(_PAGE)
        rows = tx.execute(query).all()
        for row in rows:
            yield AuditEntry(row.seq, row.at, row.actor, row.action, row.subject, row.detail, row.previous), row.sha256
        if len(rows) < _PAGE:
            return
        after = rows[-1].seq
