"""Recipes: named, versioned, parameterised compression steps that make a variant. Data, not code.

`version` rises whenever the same source would give other bytes, so that a manifest tells how its model was made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from controller.domain.errors import InvalidInput

OPAQUE = "opaque"
"""Name of the one variant of an opaque version: the upload itself, not compressed and not evaluated."""


@dataclass(frozen=True)
class StepUse:
    """One step with its parameters; `module` is a module of `controller.artifacts.steps`."""

    module: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """What makes a variant. A recipe without steps keeps the source as it is."""

    name: str
    version: int
    steps: tuple[StepUse, ...]
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return the form that a manifest carries."""
        return {"name": self.name, "version": self.version, "steps": [asdict(step) for step in self.steps]}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", 1, (), "the source as it was uploaded"),
        Recipe(
            "int8",
            1,
            (StepUse("quantize_dynamic", {"per_channel": True}),),
            "weights as 8-bit whole numbers, one scale for each channel",
        ),
    )
}
DEFAULT_RECIPES = ("fp32", "int8")


def check_recipes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names if each is a recipe and none comes twice; InvalidInput otherwise."""
    unknown = sorted(set(names) - set(RECIPES))
    if unknown:
        raise InvalidInput(
            f"there is no recipe {', '.join(unknown)}; choose from {', '.join(sorted(RECIPES))}",
            code="recipe_unknown",
            field="/recipes",
        )
    if not names or len(set(names)) != len(names):
        raise InvalidInput(
            f"recipes are {list(names)}; name at least one and each once", code="recipe_repeated", field="/recipes"
        )
    return tuple(names)
