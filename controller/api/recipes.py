"""Operator routes for recipes: those that are built in, the operator's own, and the schema of both."""

from typing import Any

from fastapi import APIRouter

from controller.api.dependencies import READS, ModelsWriter, ServicesDep
from controller.artifacts.recipes import RECIPES, Recipe, recipe_schema
from controller.domain.errors import NotFound
from controller.use_cases.known_recipes import create_recipe, known_recipes

router = APIRouter(prefix="/api/v1", tags=["recipes"])


@router.get("/schemas/recipe.json", dependencies=[READS])
def get_schema() -> dict[str, Any]:
    """Give the JSON schema of a recipe, for editors."""
    return recipe_schema()


@router.get("/recipes", dependencies=[READS])
def list_recipes(services: ServicesDep) -> dict[str, Any]:
    """List the newest version of every recipe."""
    with services.database.reading() as tx:
        return {"items": [_document(recipe) for recipe in known_recipes(tx).values()]}


@router.get("/recipes/{name}", dependencies=[READS])
def get_recipe(name: str, services: ServicesDep) -> dict[str, Any]:
    """Show one recipe."""
    with services.database.reading() as tx:
        known = known_recipes(tx)
    if name not in known:
        raise NotFound(f"there is no recipe {name!r}; there are {', '.join(sorted(known))}", code="recipe_unknown")
    return _document(known[name])


@router.post("/recipes", status_code=201)
def post_recipe(document: dict[str, Any], services: ServicesDep, operator: ModelsWriter) -> dict[str, Any]:
    """Add a recipe, or the next version of one's own."""
    return _document(create_recipe(services.database, document, actor=operator.name, now=services.clock()))


def _document(recipe: Recipe) -> dict[str, Any]:
    return {**recipe.to_json(), "built_in": recipe.name in RECIPES, "calibrates": recipe.calibrates}
