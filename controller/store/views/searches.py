"""Searches as the API shows them: every candidate with its figures, the Pareto front, the choice and its reason."""

from typing import Any

from sqlalchemy import Connection, select

from controller.domain.errors import NotFound
from controller.domain.ids import SearchId, VersionId
from controller.domain.search import excess, pareto_front
from controller.store import catalog, tables
from controller.store.searches import Search, candidate_of, candidate_rows, search_by_id

Document = dict[str, Any]
_search = tables.search


def search(tx: Connection, search_id: SearchId) -> Document:
    """Return one search; NotFound names what was asked for."""
    if tx.execute(select(_search.c.id).where(_search.c.id == search_id)).first() is None:
        raise NotFound(f"there is no search {search_id!r}", code="search_unknown")
    return _document(tx, search_by_id(tx, search_id))


def searches(tx: Connection, version_id: VersionId) -> list[Document]:
    """Return the searches of a version, newest first."""
    query = select(_search.c.id).where(_search.c.version_id == version_id).order_by(_search.c.id.desc())
    return [search(tx, SearchId(found)) for found in tx.execute(query).scalars()]


def _document(tx: Connection, found: Search) -> Document:
    version = catalog.version_by_id(tx, found.version_id)
    rows = candidate_rows(tx, found.version_id)
    candidates = {row["recipe"]: candidate_of(row, found.profile) for row in rows}
    front = {candidate.recipe for candidate in pareto_front(candidates.values())}
    chosen = next((row["recipe"] for row in rows if row["id"] == found.chosen), None)
    return {
        "id": found.id,
        "model": version.model,
        "version": version.number,
        "budget": found.budget.to_json(),
        "profile": found.profile,
        "thorough": found.thorough,
        "publish": found.publish,
        "recipes": found.recipes,
        "state": found.state,
        "explanation": found.explanation,
        "chosen": chosen,
        "candidates": [
            {
                **vars(candidates[row["recipe"]]),
                "state": row["state"],
                "progress": row["progress"],
                "metric": (row["evaluation"] or {}).get("metric"),
                "drop_ci": (row["evaluation"] or {}).get("drop_ci"),
                "exceeds": list(excess(found.budget, candidates[row["recipe"]])),
                "is_on_front": row["recipe"] in front,
                "is_chosen": row["recipe"] == chosen,
            }
            for row in rows
        ],
    }
