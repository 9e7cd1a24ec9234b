"""Queries about what jobs found: results by the digest of all they depend on, and the logs of every run."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from controller.domain.ids import VariantId
from controller.store import tables
from controller.store.database import upsert
from controller.store.tables import Row

_result, _log = tables.job_result, tables.job_log
LOG_MAX = 20_000
"""Characters of a log that are kept: its end."""


@dataclass(frozen=True)
class JobResult:
    """What a job found, and the blobs it made by the name that it gave them."""

    result: dict[str, Any]
    files: dict[str, str]
    seconds: float
    created_at: datetime


def find_result(tx: Connection, key: str) -> JobResult | None:
    """Return the result that is known under the key."""
    row = tx.execute(select(_result).where(_result.c.key == key)).one_or_none()
    return JobResult(row.result, row.files, row.seconds, row.created_at) if row else None


def save_result(tx: Connection, key: str, kind: str, found: JobResult) -> None:
    """Remember a result; one that lost its blobs is replaced."""
    row = {"key": key, "kind": kind, **vars(found)}
    changed = {name: row[name] for name in ("result", "files", "seconds", "created_at")}
    tx.execute(upsert(tx, _result).values(row).on_conflict_do_update(index_elements=["key"], set_=changed))


def add_log(tx: Connection, variant_id: VariantId, row: Mapping[str, Any]) -> None:
    """Keep the log of one run: job, attempt, started_at, seconds, outcome, text."""
    tx.execute(insert(_log).values({**row, "variant_id": variant_id, "text": row["text"][-LOG_MAX:]}))


def logs_of(tx: Connection, variant_id: VariantId) -> list[Row]:
    """Return the logs of a variant's runs, oldest first."""
    shown = ("job", "attempt", "started_at", "seconds", "outcome", "text")
    query = select(*(_log.c[name] for name in shown)).where(_log.c.variant_id == variant_id).order_by(_log.c.id)
    return [dict(row) for row in tx.execute(query).mappings()]
