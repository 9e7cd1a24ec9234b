"""Cancel work on a variant, or a whole search with everything that it still has in hand.

A worker that is at it learns it from its next heartbeat and ends the child; what it found till then stays
remembered, so that asking again goes on from there.
"""

from datetime import datetime

from controller.domain.catalog import NEXT_TASK, VariantEvent, VariantState
from controller.domain.errors import Conflict
from controller.domain.ids import SearchId, VariantId, VersionId
from controller.domain.search import SearchState
from controller.store import catalog, searches, variants
from controller.store.audit import record_audit
from controller.store.database import Database, add_event


def cancel_variant(
    database: Database, model: str, number: int, name: str, *, now: datetime, actor: str = "operator"
) -> VersionId:
    """Cancel the work on one variant; Conflict when there is none to cancel. Returns the version's id."""
    with database.writing() as tx:
        version = catalog.version_numbered(tx, model, number)
        try:
            variants.move(tx, variants.variant_of(tx, version.id, name), VariantEvent.CANCEL, now)
        except Conflict as rests:
            told = f"no work on variant {name} to cancel: {rests.detail}"
            raise Conflict(told, code="nothing_to_cancel") from rests
        add_event(tx, now, actor, "variant.cancelled", version.id, f"{model} version {number}, {name}: cancelled")
        which = {"model": model, "version": number, "variant": name}
        record_audit(tx, now, actor, "variant.cancelled", version.id, which)
    return version.id


def cancel_search(database: Database, search_id: SearchId, *, now: datetime, actor: str = "operator") -> None:
    """End a running search and cancel its candidates that are not finished; Conflict when it has ended."""
    with database.writing() as tx:
        search = searches.lock_search(tx, search_id)
        if search is None:
            raise Conflict("the search has ended; there is nothing to cancel", code="search_ended")
        for row in searches.candidate_rows(tx, search.version_id):
            if row["search_id"] == search.id and VariantState(row["state"]) in NEXT_TASK:
                variants.move(tx, VariantId(row["id"]), VariantEvent.CANCEL, now)
        searches.save_search(tx, search.id, SearchState.CANCELLED, f"cancelled by {actor}", None, now)
        add_event(tx, now, actor, "search.cancelled", search.version_id, f"search {search.id}: cancelled")
        record_audit(tx, now, actor, "search.cancelled", search.id)
