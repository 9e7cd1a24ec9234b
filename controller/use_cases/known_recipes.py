"""Which recipes there are: those that are built in, and the newest versions of the operator's own."""

from collections.abc import Sequence
from datetime import datetime

from controller.artifacts.recipes import RECIPES, Recipe, check_names, parse_recipe
from controller.domain.errors import Conflict, InvalidInput
from controller.domain.ids import PREFIXES, RecipeId
from controller.store import recipes as stored
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event
from controller.use_cases.identity import new_id


def known_recipes(tx: Transaction) -> dict[str, Recipe]:
    """Return every recipe by its name."""
    own = {name: parse_recipe(document) for name, document in stored.newest_recipes(tx).items()}
    return {**RECIPES, **own}


def chosen_recipes(tx: Transaction, names: Sequence[str], *, has_inputs: bool) -> tuple[Recipe, ...]:
    """Return the recipes of these names; InvalidInput names what is unknown or lacks inputs to learn from."""
    known = known_recipes(tx)
    chosen = tuple(known[name] for name in check_names(names, list(known)))
    hungry = [recipe.name for recipe in chosen if recipe.calibrates]
    if hungry and not has_inputs:
        raise InvalidInput(
            f"{', '.join(hungry)} learns from inputs of the model, and the version has none; upload it with "
            "calibration inputs (no labels needed) or with evaluation data",
            code="calibration_missing",
            field="/recipes",
        )
    return chosen


def create_recipe(database: Database, document: dict[str, object], *, now: datetime, actor: str = "operator") -> Recipe:
    """Write the recipe as its name's next version, and return it.

    InvalidInput(`recipe_invalid`) names what does not fit; Conflict when the name is a built-in one's.
    """
    wanted = parse_recipe({**document, "version": 1})
    if wanted.name in RECIPES:
        raise Conflict(f"{wanted.name} is built in; choose another name", code="recipe_built_in", field="/name")
    with database.writing() as tx:
        number = stored.next_version(tx, wanted.name)
        recipe = parse_recipe({**document, "version": number})
        recipe_id = RecipeId(new_id(PREFIXES[RecipeId]))
        row = {"id": recipe_id, "name": recipe.name, "version": number, "document": recipe.to_json()}
        stored.insert_recipe(tx, {**row, "created_at": now})
        add_event(tx, now, actor, "recipe.added", recipe_id, f"recipe {recipe.name} version {number}")
        record_audit(tx, now, actor, "recipe.added", recipe_id, {"recipe": recipe.name, "version": number})
    return recipe
