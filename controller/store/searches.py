"""Queries about searches and their candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from controller.domain.catalog import NEXT_TASK, VariantState
from controller.domain.costs import CONTROLLER, Cost
from controller.domain.ids import SearchId, VariantId, VersionId
from controller.domain.search import Budget, Candidate, SearchState
from controller.store import tables
from controller.store.tables import Row

_search, _variant = tables.search, tables.variant


@dataclass(frozen=True)
class Search:
    """A search as it is stored."""

    id: SearchId
    version_id: VersionId
    budget: Budget
    profile: str
    thorough: bool
    publish: bool
    recipes: tuple[str, ...] | None
    """The recipes to choose from; None for whatever can be followed."""
    state: SearchState
    explanation: str
    chosen: VariantId | None


def insert_search(tx: Connection, row: Row) -> None:
    """Write a search."""
    tx.execute(insert(_search).values(row))


def search_by_id(tx: Connection, search_id: SearchId) -> Search:
    """Return a search that is known to exist."""
    return _as_search(tx.execute(select(_search).where(_search.c.id == search_id)).one())


def is_searched(tx: Connection, version_id: VersionId) -> bool:
    """Tell whether a search of the version goes on."""
    query = select(_search.c.id).where(_search.c.version_id == version_id, _search.c.state == SearchState.RUNNING)
    return tx.execute(query.limit(1)).first() is not None


def running_searches(tx: Connection, at_most: int) -> list[Search]:
    """Return searches that go on, the one that was looked at longest ago first."""
    query = select(_search).where(_search.c.state == SearchState.RUNNING).order_by(_search.c.updated_at, _search.c.id)
    return [_as_search(row) for row in tx.execute(query.limit(at_most))]


def lock_search(tx: Connection, search_id: SearchId) -> Search | None:
    """Return a running search and keep others from deciding about it until the commit; None when it has ended."""
    query = select(_search).where(_search.c.id == search_id, _search.c.state == SearchState.RUNNING)
    row = tx.execute(query.with_for_update(skip_locked=True)).one_or_none()
    return _as_search(row) if row else None


def save_search(
    tx: Connection, search_id: SearchId, state: SearchState, explanation: str, chosen: VariantId | None, now: datetime
) -> None:
    """Write where a search stands."""
    values = {"state": state, "explanation": explanation, "chosen_variant_id": chosen, "updated_at": now}
    tx.execute(update(_search).where(_search.c.id == search_id).values(values))


def candidate_rows(tx: Connection, version_id: VersionId) -> list[Row]:
    """Return every variant of the version with the figures that a search compares, by recipe."""
    shown = ("id", "recipe", "state", "error", "wire_bytes", "evaluation", "costs", "search_id", "progress")
    query = select(*(_variant.c[name] for name in shown)).where(_variant.c.version_id == version_id)
    return [dict(row) for row in tx.execute(query.order_by(_variant.c.recipe)).mappings()]


def candidate_of(row: Mapping[str, Any], profile: str) -> Candidate:
    """Return a variant's row as the search sees it."""
    state = VariantState(row["state"])
    evaluation, costs = row["evaluation"] or {}, row["costs"] or {}
    # A published variant's costs are frozen: a class that came later sees the controller's estimate.
    measured = costs.get(profile) or costs.get(CONTROLLER.name)
    cost = Cost.from_json(measured) if measured else None
    value, source_value = evaluation.get("value"), evaluation.get("source_value")
    return Candidate(
        recipe=row["recipe"],
        final=state not in NEXT_TASK,
        error=row["error"] if state not in NEXT_TASK else None,
        value=value,
        drop=None if value is None or source_value is None else source_value - value,
        wire_bytes=row["wire_bytes"],
        memory_bytes=cost.peak_bytes if cost else None,
        latency_us=cost.corrected(cost.p50_us) if cost else None,
        unfit=cost.reason if cost else None,
    )


def _as_search(row: Any) -> Search:
    return Search(
        id=SearchId(row.id),
        version_id=VersionId(row.version_id),
        budget=Budget.from_json(row.budget),
        profile=row.profile,
        thorough=row.thorough,
        publish=row.publish,
        recipes=None if row.recipes is None else tuple(row.recipes),
        state=SearchState(row.state),
        explanation=row.explanation,
        chosen=VariantId(row.chosen_variant_id) if row.chosen_variant_id else None,
    )
