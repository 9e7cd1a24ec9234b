"""Search a version's variants for one that keeps a budget: start, and move on whenever candidates have finished.

A candidate is a variant like any other, made and measured by the same tasks; only that it is set aside at the end.
The one that is chosen goes on to be measured for every class and published.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.util import find_spec

from controller.artifacts.recipes import Recipe
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.costs import CONTROLLER
from controller.domain.errors import Conflict, InvalidInput
from controller.domain.ids import PREFIXES, SearchId, VariantId
from controller.domain.search import Plan, SearchState, parse_budget, plan
from controller.store import catalog, searches, variants
from controller.store.audit import record_audit
from controller.store.costs import device_classes
from controller.store.database import Database, Transaction, add_event
from controller.store.searches import Search
from controller.store.tables import Row
from controller.use_cases.add_version import queued_variant
from controller.use_cases.ask_for_variants import has_inputs, refuse_opaque
from controller.use_cases.identity import new_id
from controller.use_cases.known_recipes import chosen_recipes, known_recipes

BATCH_MAX = 8
"""Searches that one round looks at."""


def start_search(
    database: Database,
    model: str,
    number: int,
    budget: str,
    *,
    profile: str = CONTROLLER.name,
    thorough: bool = False,
    publish: bool = True,
    recipes: Sequence[str] | None = None,
    now: datetime,
    actor: str = "operator",
) -> SearchId:
    """Begin a search; its first candidates are asked for in the next round.

    `recipes` are those to choose from, None for whatever can be followed. NotFound: no such version. InvalidInput: a
    budget that does not fit, an unknown class or recipe. Conflict: the version is opaque, or is being searched already.
    """
    wanted = parse_budget(budget)
    search_id = SearchId(new_id(PREFIXES[SearchId]))
    with database.writing() as tx:
        version = catalog.version_numbered(tx, model, number)
        refuse_opaque(version)
        _check_profile(tx, profile)
        if recipes is not None:
            chosen_recipes(tx, recipes, has_inputs=has_inputs(version))
        if searches.is_searched(tx, version.id):
            raise Conflict(
                f"version {number} of {model} is being searched already; wait or cancel it", code="searching"
            )
        row = {
            "id": search_id,
            "version_id": version.id,
            "budget": wanted.to_json(),
            "profile": profile,
            "thorough": thorough,
            "publish": publish,
            "recipes": None if recipes is None else list(recipes),
            "state": SearchState.RUNNING,
            "explanation": "waiting for the first candidates",
            "created_at": now,
            "updated_at": now,
        }
        searches.insert_search(tx, row)
        told = f"{model} version {number}: searching for a variant with {budget or 'no limits'} on {profile}"
        add_event(tx, now, actor, "search.started", version.id, told)
        asked = {"model": model, "version": number, "budget": budget, "profile": profile}
        record_audit(tx, now, actor, "search.started", search_id, asked)
    return search_id


def advance_searches(database: Database, *, now: datetime) -> int:
    """Take every running search one step on; return how many were looked at. Tasks are found by the sweep."""
    with database.reading() as tx:
        running = searches.running_searches(tx, BATCH_MAX)
    for search in running:
        with database.writing() as tx:
            locked = searches.lock_search(tx, search.id)
            if locked:
                _advance(tx, locked, now)
    return len(running)


def tiers_of(recipes: Iterable[Recipe], *, with_inputs: bool) -> list[list[str]]:
    """Return the names of the recipes that can be followed here, the cheap ones first."""
    usable = [recipe for recipe in recipes if _is_usable(recipe, with_inputs=with_inputs)]
    efforts = sorted({recipe.effort for recipe in usable})
    return [[recipe.name for recipe in usable if recipe.effort == effort] for effort in efforts]


def _advance(tx: Transaction, search: Search, now: datetime) -> None:
    version = catalog.version_by_id(tx, search.version_id)
    recipes = known_recipes(tx)
    eligible = recipes.values() if search.recipes is None else [recipes[name] for name in search.recipes]
    tiers = tiers_of(eligible, with_inputs=has_inputs(version))
    tried = {name for tier in tiers for name in tier}
    rows = {row["recipe"]: row for row in searches.candidate_rows(tx, search.version_id) if row["recipe"] in tried}
    for row in rows.values():
        event = _judged_anew(row, search)
        if event:
            state = variants.move(tx, row["id"], event, now, {"search_id": search.id, "error": None})
            row |= {"state": state, "search_id": search.id, "error": None}
    candidates = [searches.candidate_of(row, search.profile) for row in rows.values()]
    decided = plan(search.budget, tiers, candidates, thorough=search.thorough)
    new = [queued_variant(search.version_id, recipes[name], search.id, now) for name in decided.ask]
    variants.insert_variants(tx, new)
    chosen = rows[decided.chosen] if decided.chosen else None
    _save(tx, search, decided, chosen, now)


def _judged_anew(row: Row, search: Search) -> VariantEvent | None:
    """Return the event that takes up what others left and this search sees otherwise; None to leave it as it is.

    That is what was refused under a stricter limit, or measured for another class. The jobs are remembered. What this
    search itself has judged stays so, or it would go on for ever.
    """
    if row["search_id"] == search.id:
        return None
    drop = searches.candidate_of(row, search.profile).drop
    if row["state"] == VariantState.REFUSED and _keeps(search, drop):
        return VariantEvent.ASKED_AGAIN
    is_unmeasured = row["state"] == VariantState.ASIDE and search.profile not in (row["costs"] or {})
    return VariantEvent.CHOSEN if is_unmeasured else None


def _keeps(search: Search, drop: float | None) -> bool:
    return drop is not None and search.budget.drop is not None and drop <= search.budget.drop


def _save(tx: Transaction, search: Search, decided: Plan, chosen: Row | None, now: datetime) -> None:
    state = SearchState.DONE if decided.finished else SearchState.RUNNING
    variant_id = VariantId(chosen["id"]) if chosen else None
    searches.save_search(tx, search.id, state, decided.explanation, variant_id, now)
    if chosen and search.publish and chosen["state"] == VariantState.ASIDE:
        variants.move(tx, VariantId(chosen["id"]), VariantEvent.CHOSEN, now, {"search_id": search.id})
    if decided.finished:
        add_event(tx, now, "search", "search.done", search.version_id, decided.explanation)


def _check_profile(tx: Transaction, profile: str) -> None:
    known = sorted({CONTROLLER.name, *(one.name for one in device_classes(tx))})
    if profile not in known:
        raise InvalidInput(
            f"there is no device class {profile!r}; choose from {', '.join(known)}",
            code="profile_unknown",
            field="/profile",
        )


def _is_usable(recipe: Recipe, *, with_inputs: bool) -> bool:
    torch_is_missing = any(use.step == "distil_torch" for use in recipe.steps) and find_spec("torch") is None
    return (with_inputs or not recipe.calibrates) and not torch_is_missing
