"""Proving a model directory against its signed behaviour."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_agent.protocol.manifest import GOLDEN_FILE, Behaviour
from device_agent.serving.selftest import BehaviourDiffers, compare, main
from tests.support.onnx_models import (
    MAIN_FILE,
    MANIFEST_FILE,
    linear_model,
    manifest_for,
    model_directory,
    write_golden,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return model_directory(tmp_path)[0]


def result_of(directory: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    exit_code = main([str(directory)])
    (line,) = capsys.readouterr().out.splitlines()
    return exit_code, json.loads(line)


def test_a_model_that_behaves_as_signed_passes(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code, result = result_of(directory, capsys)

    assert (exit_code, result["ok"]) == (0, True)
    assert result["max_difference"] < 1e-6


def test_a_model_within_the_tolerance_passes_and_tells_its_difference(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linear_model(directory / MAIN_FILE, bias=5e-5)

    exit_code, result = result_of(directory, capsys)

    assert exit_code == 0
    assert result["max_difference"] == pytest.approx(5e-5, rel=0.1)


def test_another_model_under_the_same_manifest_differs_in_behaviour(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    linear_model(directory / MAIN_FILE, bias=1.0)

    exit_code, result = result_of(directory, capsys)

    assert (exit_code, result["ok"], result["code"]) == (3, False, "E_BEHAVIOUR")
    assert "output 'scores' differs in 24 of 24 values, by up to 1" in result["message"]


def test_a_model_of_another_form_cannot_be_run(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    linear_model(directory / MAIN_FILE, features=5)

    exit_code, result = result_of(directory, capsys)

    assert (exit_code, result["ok"], result["code"]) == (4, False, "E_LOAD")


@pytest.mark.parametrize("name", [MAIN_FILE, GOLDEN_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("content", [None, b"", b"damage"])
def test_a_missing_or_damaged_file_is_a_load_error(
    directory: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None
) -> None:
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)

    exit_code, result = result_of(directory, capsys)

    assert (exit_code, result["ok"], result["code"]) == (4, False, "E_LOAD")


def test_golden_outputs_that_the_model_does_not_have_are_a_load_error(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(directory / GOLDEN_FILE) as arrays:
        rows = arrays["input:x"]
    write_golden(directory / GOLDEN_FILE, inputs={"x": rows}, outputs={"other": rows})

    _, result = result_of(directory, capsys)

    assert result["message"] == "golden outputs are ['other']; the model has ['scores']"


def test_a_manifest_without_golden_tensors_proves_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = manifest_for(directory)
    unproven = replace(manifest, behaviour=replace(manifest.behaviour, golden=None))
    (directory / MANIFEST_FILE).write_bytes(unproven.to_bytes())

    _, result = result_of(directory, capsys)

    assert "names no golden tensors" in result["message"]


TOLERANCE = Behaviour(golden=GOLDEN_FILE, absolute_tolerance=0.1, relative_tolerance=0.01, evaluation={})


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        ([10.19], [10.0]),
        ([-10.19], [-10.0]),
        ([0.09], [0.0]),
    ],
)
def test_tolerances_add_up_to_absolute_plus_relative_of_the_wanted(got: list[float], wanted: list[float]) -> None:
    assert compare("y", np.array(got), np.array(wanted), TOLERANCE) == pytest.approx(abs(got[0] - wanted[0]))


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        ([10.21], [10.0]),
        ([np.nan], [0.0]),
        ([np.nan], [np.nan]),
        ([np.inf], [np.inf]),
        ([1.0, 2.0], [1.0]),
        ([1], [1.0]),
        ([True], [False]),
        (["a"], ["b"]),
    ],
)
def test_values_beyond_the_tolerance_or_of_another_form_differ(got: list[object], wanted: list[object]) -> None:
    with pytest.raises(BehaviourDiffers, match="output 'y'"):
        compare("y", np.array(got), np.array(wanted), TOLERANCE)


def test_equal_texts_and_truth_values_do_not_differ() -> None:
    assert compare("y", np.array(["a"], dtype=object), np.array(["a"], dtype=object), TOLERANCE) == 0.0
    assert compare("y", np.array([True]), np.array([True]), TOLERANCE) == 0.0
