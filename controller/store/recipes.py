"""Queries about the operator's own recipes. Every change is a new version; old ones stay."""

from typing import Any

from sqlalchemy import Connection, func, insert, select

from controller.store import tables
from controller.store.tables import Row

_recipe = tables.recipe


def newest_recipes(tx: Connection) -> dict[str, dict[str, Any]]:
    """Return the newest version of each recipe as a document, by name."""
    newest = select(_recipe.c.name, func.max(_recipe.c.version).label("version")).group_by(_recipe.c.name).subquery()
    same = (_recipe.c.name == newest.c.name) & (_recipe.c.version == newest.c.version)
    rows = tx.execute(select(_recipe.c.name, _recipe.c.document).join(newest, same).order_by(_recipe.c.name))
    return {row.name: row.document for row in rows}


def next_version(tx: Connection, name: str) -> int:
    """Return the number of the recipe's next version."""
    newest = select(func.coalesce(func.max(_recipe.c.version), 0)).where(_recipe.c.name == name)
    number: int = tx.execute(newest).scalar_one()
    return number + 1


def insert_recipe(tx: Connection, row: Row) -> None:
    """Write a version of a recipe."""
    tx.execute(insert(_recipe).values(row))
