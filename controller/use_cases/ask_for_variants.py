"""Ask for variants of a version that exists: new ones, those that were set aside, another try of failed ones."""

from collections.abc import Sequence
from datetime import datetime

from controller.artifacts.recipes import Recipe
from controller.domain.catalog import NEXT_TASK, ModelVersion, VariantEvent, VariantState
from controller.domain.errors import Conflict
from controller.domain.ids import VariantId, VersionId
from controller.store import catalog, variants
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event
from controller.store.searches import candidate_rows
from controller.use_cases.add_version import queued_variant
from controller.use_cases.known_recipes import chosen_recipes
from controller.use_cases.task_queue import TaskQueue

_EVENTS = {
    VariantState.ASIDE: VariantEvent.CHOSEN,
    VariantState.REFUSED: VariantEvent.ASKED_AGAIN,
    VariantState.FAILED: VariantEvent.ASKED_AGAIN,
    VariantState.CANCELLED: VariantEvent.ASKED_AGAIN,
}
"""What asking means for a variant that is there already; in every other state it is on its way, or published."""


def ask_for_variants(
    database: Database,
    tasks: TaskQueue,
    model: str,
    number: int,
    names: Sequence[str],
    *,
    now: datetime,
    actor: str = "operator",
) -> VersionId:
    """Have the recipes followed for the version, and return its id.

    A recipe that was followed already is not followed again, unless it ended badly. NotFound: no such version.
    InvalidInput: an unknown recipe, or one that lacks inputs to learn from. Conflict: the version is opaque.
    """
    with database.writing() as tx:
        version = catalog.version_numbered(tx, model, number)
        refuse_opaque(version)
        chosen = chosen_recipes(tx, names, has_inputs=has_inputs(version))
        due = [_ask(tx, version, recipe, now) for recipe in chosen]
        told = f"{model} version {number}: asked for {', '.join(names)}"
        add_event(tx, now, actor, "version.variants_asked", version.id, told)
        asked = {"model": model, "version": number, "recipes": list(names)}
        record_audit(tx, now, actor, "version.variants_asked", version.id, asked)
    for state, variant_id in due:
        if state in NEXT_TASK:
            tasks.send(NEXT_TASK[state], variant_id)
    return version.id


def has_inputs(version: ModelVersion) -> bool:
    """Tell whether the version has inputs that recipes may learn from."""
    return bool(version.evaluation_sha256 or version.calibration_sha256)


def refuse_opaque(version: ModelVersion) -> None:
    """Raise Conflict for a version that cannot be compressed."""
    if version.format == "opaque":
        raise Conflict(
            f"version {version.number} of {version.model} is opaque: it is delivered as it is and not compressed",
            code="opaque_is_not_compressed",
        )


def _ask(tx: Transaction, version: ModelVersion, recipe: Recipe, now: datetime) -> tuple[VariantState, VariantId]:
    there = next((row for row in candidate_rows(tx, version.id) if row["recipe"] == recipe.name), None)
    if there is None:
        row = queued_variant(version.id, recipe, None, now)
        variants.insert_variants(tx, [row])
        return VariantState.QUEUED, row["id"]
    variant_id, state = VariantId(there["id"]), VariantState(there["state"])
    event = _EVENTS.get(state)
    if event is None:
        return state, variant_id
    # A variant that was set aside is proven as it is; one that ended badly follows the recipe as it is now.
    again = {} if event is VariantEvent.CHOSEN else {"recipe_document": recipe.to_json()}
    return variants.move(tx, variant_id, event, now, {**again, "search_id": None, "error": None}), variant_id
