"""Recipes as data: what is accepted, what is refused and where, and the schema that editors get."""

import importlib
from typing import Any

import pytest

from controller.artifacts.recipes import RECIPES, Recipe, check_names, parse_recipe, recipe_schema
from controller.artifacts.steps.parameters import STEPS
from controller.domain.errors import InvalidInput


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_built_in_recipe_says_what_it_does_and_survives_being_stored(recipe: Recipe) -> None:
    assert recipe.description
    assert parse_recipe(recipe.to_json()) == recipe


@pytest.mark.parametrize("step", STEPS)
def test_every_step_that_recipes_may_name_is_a_module_with_the_one_interface(step: str) -> None:
    module = importlib.import_module(f"controller.artifacts.steps.{step}")
    assert list(module.apply.__code__.co_varnames[:4]) == ["model", "parameters", "calibration", "tell"]


@pytest.mark.parametrize(
    ("document", "told", "field"),
    [
        (3, "Expected `object`", None),
        ({"name": "Big Name"}, "regex", None),
        ({"name": "x", "colour": "red"}, "unknown field `colour`", None),
        ({"name": "opaque"}, "is taken", "/name"),
        ({"name": "x", "steps": [{"step": "squeeze"}]}, "no step 'squeeze'; choose from clip", "/steps/0/step"),
        ({"name": "x", "steps": [{"step": "clip", "parameters": {"bits": 99}}]}, "<= 8", "/steps/0/parameters"),
        ({"name": "x", "steps": [{"step": "clip", "parameters": {"bit": 8}}]}, "`bit`", "/steps/0/parameters"),
        ({"name": "x", "steps": [{"step": "palette"}] * 17}, "length <= 16", None),
    ],
)
def test_a_document_that_is_no_recipe_is_refused_with_the_place(document: object, told: str, field: str | None) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_recipe(document)
    assert refusal.value.code == "recipe_invalid"
    assert refusal.value.field == field
    assert told in refusal.value.detail


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (["quantize_dynamic", "clip"], "clip comes after quantize_dynamic, whose weights are no longer plain floats"),
        (["quantize_dynamic", "optimize"], "optimize comes after quantize_dynamic"),
        (["quantize_dynamic", "palette"], "palette comes after quantize_dynamic"),
        (["prune_structured", "distil"], "the order is: distil, prune and clip, number format, layout"),
        (["distil", "distil"], "distil comes after distil"),
        (["external_data", "quantize_dynamic"], "put external_data last"),
    ],
)
def test_steps_in_an_order_that_makes_no_sense_are_refused_with_the_order_that_does(
    steps: list[str], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        parse_recipe({"name": "x", "steps": [{"step": step, **_required(step)} for step in steps]})


@pytest.mark.parametrize(
    "steps",
    [
        ["optimize", "distil", "prune_structured", "prune_magnitude", "clip", "quantize_static", "external_data"],
        ["distil", "optimize", "palette"],
        ["external_data"],
    ],
)
def test_steps_in_an_order_that_makes_sense_are_accepted(steps: list[str]) -> None:
    recipe = parse_recipe({"name": "x", "steps": [{"step": step, **_required(step)} for step in steps]})
    assert [use.step for use in recipe.steps] == steps


def test_a_recipe_calibrates_when_one_of_its_steps_does() -> None:
    assert RECIPES["int8-static"].calibrates
    assert not RECIPES["int8"].calibrates


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="int3; choose from fp32, int8"):
        check_names(["fp32", "int3"], ["int8", "fp32"])


def test_the_schema_ties_every_step_to_its_own_parameters() -> None:
    schema = recipe_schema()
    uses: list[dict[str, Any]] = schema["$defs"]["StepUse"]["oneOf"]
    parameters = {use["properties"]["step"]["const"]: use["properties"]["parameters"]["$ref"] for use in uses}
    assert parameters["prune_structured"] == "#/$defs/PruneStructured"
    assert schema["$defs"]["PruneStructured"]["properties"]["fraction"]["exclusiveMaximum"] == 1
    assert parameters.keys() == STEPS.keys()


def _required(step: str) -> dict[str, Any]:
    needed = {"prune_structured": {"fraction": 0.5}, "prune_magnitude": {"sparsity": 0.5}}
    return {"parameters": needed[step]} if step in needed else {}
