"""Recipes: named, versioned, parameterised compression steps that make a variant. Data, not code.

Those that are built in come from `builtin_recipes.yaml`; an operator's own have the same form and pass the same
checks. `version` rises whenever the same source would give other bytes, so that a manifest tells how its model
was made.
"""

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta

from controller.artifacts.steps.parameters import STEPS, StepParameters, read_parameters
from controller.domain.errors import InvalidInput
from device_agent.protocol.manifest import NAME

OPAQUE = "opaque"
"""Name of the one variant of an opaque version: the upload itself, not compressed and not evaluated."""
DEFAULT_RECIPES = ("fp32", "int8")
STEPS_MAX = 16

PHASES = (
    ("distil", "distil_torch"),
    ("prune_magnitude", "prune_structured", "clip"),
    ("quantize_dynamic", "quantize_static", "quantize_weights", "float16", "palette"),
    ("external_data",),
)
"""The order that makes sense: what trains, what removes and bounds, what changes the number format, the layout.

`optimize` may stand anywhere before the number format.
"""
_PHASE_OF = {step: number for number, steps in enumerate(PHASES) for step in steps}
_FORMAT_PHASE = _PHASE_OF["palette"]


class StepUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One step with its parameters; those that are left out have their defaults."""

    step: str
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)

    def read(self) -> StepParameters:
        """Return the parameters, checked."""
        return read_parameters(self.step, self.parameters)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What makes a variant. A recipe without steps keeps the source as it is."""

    name: Annotated[str, Meta(pattern=f"^{NAME.pattern}$", max_length=64)]
    version: Annotated[int, Meta(ge=1)] = 1
    description: Annotated[str, Meta(max_length=400)] = ""
    steps: Annotated[tuple[StepUse, ...], Meta(max_length=STEPS_MAX)] = ()

    @property
    def calibrates(self) -> bool:
        """Tell whether it cannot be followed without inputs of the model."""
        return any(use.read().calibrates for use in self.steps)

    @property
    def effort(self) -> int:
        """How dear its dearest step is."""
        return max((STEPS[use.step].effort for use in self.steps), default=1)

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored, and that a manifest carries."""
        document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return document


def parse_recipe(document: object) -> Recipe:
    """Return the recipe that a document describes; InvalidInput(`recipe_invalid`) names the place that does not fit."""
    try:
        recipe = msgspec.convert(document, Recipe)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # half of a surrogate pair
        raise _invalid(str(error)) from error
    for number, use in enumerate(recipe.steps):
        _check_use(number, use)
    _check_order(recipe.steps)
    if recipe.name == OPAQUE:
        raise _invalid(f"the name {OPAQUE!r} is taken by what is not compressed; choose another", "/name")
    return recipe


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a recipe: each step with its own parameters."""
    types = [Recipe, *(kind.parameters for kind in STEPS.values())]
    (recipe, *parameters), definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    definitions["StepUse"] = {
        "oneOf": [
            {
                "type": "object",
                "properties": {"step": {"const": step}, "parameters": schema},
                "required": ["step"],
                "additionalProperties": False,
            }
            for step, schema in zip(STEPS, parameters, strict=True)
        ]
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **recipe, "$defs": definitions}


def check_names(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names if each is a known recipe and none comes twice; InvalidInput otherwise."""
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InvalidInput(
            f"there is no recipe {', '.join(unknown)}; choose from {', '.join(sorted(known))}",
            code="recipe_unknown",
            field="/recipes",
        )
    if not names or len(set(names)) != len(names):
        raise InvalidInput(
            f"recipes are {list(names)}; name at least one and each once", code="recipe_repeated", field="/recipes"
        )
    return tuple(names)


def _check_use(number: int, use: StepUse) -> None:
    if use.step not in STEPS:
        told = f"there is no step {use.step!r}; choose from {', '.join(sorted(STEPS))}"
        raise _invalid(told, f"/steps/{number}/step")
    try:
        use.read()
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise _invalid(f"{use.step}: {error}", f"/steps/{number}/parameters") from error


def _check_order(uses: Sequence[StepUse]) -> None:
    before: tuple[int, str] = (-1, "")
    for number, use in enumerate(uses):
        optimizes = use.step == "optimize"
        phase = _FORMAT_PHASE - 1 if optimizes else _PHASE_OF[use.step]
        if phase < before[0] or (phase == before[0] and phase in (0, _FORMAT_PHASE, _FORMAT_PHASE + 1)):
            raise _invalid(_why_not(use.step, before[1]), f"/steps/{number}/step")
        if not optimizes:
            before = (phase, use.step)


def _why_not(step: str, before: str) -> str:
    if before == "external_data":
        return f"{step} comes after external_data, which lays out the finished file; put external_data last"
    if _PHASE_OF[before] == _FORMAT_PHASE:
        return f"{step} comes after {before}, whose weights are no longer plain floats; put {step} before it"
    return f"{step} comes after {before}; the order is: distil, prune and clip, number format, layout"


def _invalid(detail: str, field: str = "") -> InvalidInput:
    return InvalidInput(f"the recipe does not fit: {detail}", code="recipe_invalid", field=field or None)


@cache
def _builtin() -> dict[str, Recipe]:
    text = resources.files("controller.artifacts").joinpath("builtin_recipes.yaml").read_text()
    return {recipe.name: recipe for recipe in map(parse_recipe, yaml.safe_load(text))}


RECIPES = _builtin()
