"""Queries about artifacts: which bytes the controller knows."""

from datetime import datetime

from sqlalchemy import Connection, select

from controller.store import tables
from controller.store.database import upsert

_artifact = tables.artifact


def put_artifact(tx: Connection, sha256: str, size_bytes: int, now: datetime) -> None:
    """Record that the blob store holds these bytes; recording them again changes nothing."""
    row = {"sha256": sha256, "size_bytes": size_bytes, "created_at": now}
    tx.execute(upsert(tx, _artifact).values(row).on_conflict_do_nothing(index_elements=["sha256"]))


def has_artifact(tx: Connection, sha256: str) -> bool:
    """Tell whether the bytes were uploaded or made here."""
    return tx.execute(select(_artifact.c.sha256).where(_artifact.c.sha256 == sha256)).first() is not None


def artifact_bytes(tx: Connection, sha256: str) -> int:
    """Return the size of an artifact that is known."""
    size_bytes: int = tx.execute(select(_artifact.c.size_bytes).where(_artifact.c.sha256 == sha256)).scalar_one()
    return size_bytes
