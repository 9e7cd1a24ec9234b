"""Recipes and what their steps make."""

import importlib
from pathlib import Path

import pytest

from controller.artifacts.compression import compress_file
from controller.artifacts.evaluation import evaluate_files
from controller.artifacts.recipes import RECIPES, Recipe, check_recipes
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits_evaluation, digits_model, fragile_classifier


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    digits_model(path)
    return path


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_every_step_of_a_recipe_exists(recipe: Recipe) -> None:
    for use in recipe.steps:
        assert callable(importlib.import_module(f"controller.artifacts.steps.{use.module}").run)


def test_an_unknown_recipe_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match="int3; choose from fp32, int8"):
        check_recipes(["fp32", "int3"])


def test_a_recipe_without_steps_keeps_the_source(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "variant.onnx"
    made = compress_file(RECIPES["fp32"], source, target, None)
    assert target.read_bytes() == source.read_bytes()
    assert made.steps == ()


def test_int8_is_smaller_says_so_and_is_the_same_bytes_every_time(source: Path, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        target = tmp_path / name / "variant.onnx"
        made = compress_file(RECIPES["int8"], source, target, None)
        written.append(target.read_bytes())
    assert written[0] == written[1]
    assert len(written[0]) < source.stat().st_size
    assert made.model.precision == "int8"
    assert made.model.inputs[0].shape == (-1, 64)
    assert [step["step"] for step in made.steps] == ["quantize_dynamic"]


def test_int8_keeps_the_accuracy_of_the_digits(source: Path, tmp_path: Path) -> None:
    variant, evaluation = tmp_path / "variant.onnx", tmp_path / "evaluation.npz"
    compress_file(RECIPES["int8"], source, variant, None)
    digits_evaluation(evaluation)
    found = evaluate_files(source, variant, tmp_path / "golden.npz", evaluation)
    assert (found.metric, found.samples) == ("accuracy", HELD_OUT)
    assert found.value is not None
    assert found.source_value is not None
    assert found.value >= found.source_value - 0.01
    assert found.golden_rows == 32


def test_the_damage_of_quantization_shows_in_the_figures(tmp_path: Path) -> None:
    source, variant, evaluation = (tmp_path / name for name in ("source.onnx", "variant.onnx", "evaluation.npz"))
    fragile_classifier(source, evaluation)
    compress_file(RECIPES["int8"], source, variant, None)
    found = evaluate_files(source, variant, tmp_path / "golden.npz", evaluation)
    assert found.source_value == 1.0
    assert found.value is not None
    assert found.value < 0.6
    assert found.agreement == found.value
