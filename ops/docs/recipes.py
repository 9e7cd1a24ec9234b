"""Writes docs/reference/recipes.md from steps and recipes themselves: `python -m ops.docs.recipes`.

What the page says about the order of steps, and about which of them need inputs, is found by asking: every pair of
steps is given to the parser of recipes, every choice to the step's own parameters.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from controller.artifacts.recipes import PHASES, RECIPES, STEPS_MAX, Recipe, StepUse, parse_recipe
from controller.artifacts.steps.parameters import STEPS, StepKind, StepParameters, read_parameters
from controller.domain.errors import InvalidInput

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "recipes.md"
ANYWHERE = "optimize"
"""The step that belongs to no group."""
GROUPS = ("Train a student", "Remove and bound", "Change the number format", "Lay out")
"""What the steps of each of PHASES do."""
SOMETHING = 0.5
"""A value for parameters that have no default."""

INTRODUCTION = f"""# Steps and recipes

Written by `python -m ops.docs.recipes` from `controller/artifacts/steps/parameters.py`, `recipes.py` and
`builtin_recipes.yaml` in `controller/artifacts/`; do not edit it here. [How to compress](../how-to/compress.md) says
which recipe pays where.

A recipe is a name and at most {STEPS_MAX} steps, each with its parameters. Parameters that are left out have their
defaults; a name or a value that does not fit is refused with its place. `edgefleet recipe schema` prints the same as a
JSON schema for editors.

```yaml
name: my-recipe                  # lower-case letters and digits, inside it also . _ -; the variant has it, too
description: what it is for      # for people; may be left out
steps:
  - step: prune_structured
    parameters: {{fraction: 0.5}}
  - step: quantize_dynamic
```
"""

STEPS_INTRODUCTION = """## The steps

*Inputs* are inputs of the model without labels: the version's calibration data, or half of its evaluation data.
*Effort* is how dear a step is beside the others, from 1; a recipe has the effort of its dearest step, and a search
tries recipes of little effort first. A step's *version* rises when it would give other bytes than before.
"""

RECIPES_INTRODUCTION = """## The built-in recipes

`edgefleet recipe get NAME` prints one as YAML. Built-in names cannot be taken by own recipes.

| recipe | version | steps | needs inputs | effort | what it does |
|---|---|---|---|---|---|"""


def render() -> str:
    """Return the page."""
    steps = (_step(name, kind) for name, kind in STEPS.items())
    recipes = (_recipe(recipe) for recipe in RECIPES.values())
    return "\n".join([INTRODUCTION, *_order(), STEPS_INTRODUCTION, *steps, RECIPES_INTRODUCTION, *recipes]) + "\n"


def may_follow(first: str, second: str) -> bool:
    """Tell whether a recipe may have the second step right behind the first."""
    uses = [{"step": step, "parameters": _least(step)} for step in (first, second)]
    try:
        parse_recipe({"name": "tried", "steps": uses})
    except InvalidInput:
        return False
    return True


def combinations(step: str) -> Iterator[StepParameters]:
    """Yield the step's parameters once for every combination of choices; what is no choice has its default."""
    return _combinations(step, _choices(step))


def choices_with_inputs(step: str) -> list[tuple[str, str]]:
    """Return the choices, each a parameter and its value as YAML, any of which makes the step need inputs."""
    choices = _choices(step)
    return [
        (name, yaml_of(value))
        for name, values in choices.items()
        for value in values
        if all(parameters.calibrates for parameters in _combinations(step, {**choices, name: [value]}))
    ]


def always_needs_inputs(step: str) -> bool:
    """Tell whether the step needs inputs whatever is chosen."""
    return all(parameters.calibrates for parameters in combinations(step))


def yaml_of(value: object) -> str:
    """Return a value as people write it in a recipe."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _order() -> Iterator[str]:
    yield "## The order of steps\n"
    yield "Steps come in this order; groups may be left out.\n"
    for number, (does, steps) in enumerate(zip(GROUPS, PHASES, strict=True), start=1):
        repeats = all(itertools.starmap(may_follow, itertools.product(steps, repeat=2)))
        how_many = "any number of" if repeats else "at most one of" if len(steps) > 1 else "at most one"
        yield f"{number}. {does}: {how_many} {_names(steps)}."
    before = [step for step in _steps_in_order() if may_follow(ANYWHERE, step) and not may_follow(step, ANYWHERE)]
    yield f"\n`{ANYWHERE}` may stand anywhere, as often as wanted, but not behind {_names(before)}.\n"


def _step(name: str, kind: StepKind) -> str:
    purpose = " ".join((kind.parameters.__doc__ or "").split())
    facts = f"Needs inputs: {_inputs(name)}. Effort {kind.effort}, version {kind.version}."
    rows = _parameters(kind)
    table = ["| parameter | values | default | meaning |", "|---|---|---|---|", *rows] if rows else ["No parameters."]
    return "\n".join([f"### `{name}`", "", purpose, "", facts, "", *table, ""])


def _inputs(step: str) -> str:
    if always_needs_inputs(step):
        return "always"
    choices = [f"`{name}: {value}`" for name, value in choices_with_inputs(step)]
    return f"with {' or '.join(choices)}" if choices else "no"


def _parameters(kind: StepKind) -> list[str]:
    rows = []
    for found in msgspec.structs.fields(kind.parameters):
        schema = _schema(kind)[found.name]
        rows.append(f"| `{found.name}` | {_values(schema)} | {_default(found)} | {_meaning(schema)} |")
    return rows


def _values(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return ", or ".join(_values(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        lengths = {"minimum": schema.get("minItems") or None, "maximum": schema.get("maxItems")}
        most = f" with {_bounds(lengths)} entries" if any(lengths.values()) else ""
        return f"a list{most}, each {_values(schema['items'])}"
    words = {"integer": "a whole number", "number": "a number", "boolean": "`true`, `false`", "string": "a name"}
    return " ".join(filter(None, (words[schema["type"]], _bounds(schema))))


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "at least", "maximum": "at most", "exclusiveMaximum": "below"}
    return " and ".join(f"{word} {schema[key]}" for key, word in words.items() if schema.get(key) is not None)


def _default(found: msgspec.structs.FieldInfo) -> str:
    if found.required:
        return "must be given"
    value = found.default if found.default is not msgspec.NODEFAULT else found.default_factory()
    return "none" if value is None else f"`{yaml_of(value)}`"


def _meaning(schema: Mapping[str, Any]) -> str:
    inner = (one.get("description") for one in schema.get("anyOf", ()))
    meaning = schema.get("description") or next(filter(None, inner))
    return str(meaning).replace("|", "\\|")


def _recipe(recipe: Recipe) -> str:
    steps = ", then ".join(map(_use, recipe.steps)) or "none"
    inputs = "yes" if recipe.calibrates else "no"
    return f"| `{recipe.name}` | {recipe.version} | {steps} | {inputs} | {recipe.effort} | {recipe.description} |"


def _use(use: StepUse) -> str:
    given = ", ".join(f"{name}: {yaml_of(value)}" for name, value in use.parameters.items())
    return f"`{use.step}` ({given})" if given else f"`{use.step}`"


def _steps_in_order() -> list[str]:
    return [step for steps in PHASES for step in steps]


def _choices(step: str) -> dict[str, list[Any]]:
    return {name: _values_of(schema) for name, schema in _schema(STEPS[step]).items() if _values_of(schema)}


def _values_of(schema: Mapping[str, Any]) -> list[Any]:
    if "anyOf" in schema:
        return [value for one in schema["anyOf"] for value in _values_of(one)]
    return [False, True] if schema.get("type") == "boolean" else list(schema.get("enum", ()))


def _combinations(step: str, values: Mapping[str, list[Any]]) -> Iterator[StepParameters]:
    for chosen in itertools.product(*values.values()):
        yield read_parameters(step, {**_least(step), **dict(zip(values, chosen, strict=True))})


def _least(step: str) -> dict[str, Any]:
    return {found.name: SOMETHING for found in msgspec.structs.fields(STEPS[step].parameters) if found.required}


@cache
def _schema(kind: StepKind) -> dict[str, Any]:
    (_,), definitions = msgspec.json.schema_components([kind.parameters])
    properties: dict[str, Any] = definitions[kind.parameters.__name__]["properties"]
    return properties


def _names(steps: Iterable[str]) -> str:
    *others, end = [f"`{step}`" for step in steps]
    return f"{', '.join(others)} or {end}" if others else end


if __name__ == "__main__":
    PAGE.write_text(render())
    sys.stdout.write(f"{PAGE}\n")
