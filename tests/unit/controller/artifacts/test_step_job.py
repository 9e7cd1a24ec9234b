"""One step from file to file: what comes out must be what applications rely on."""

import sys
from pathlib import Path
from types import ModuleType

import onnx
import pytest

from controller.artifacts.step_job import main, run_step
from controller.artifacts.steps.interface import Applied
from controller.domain.errors import InvalidInput
from tests.support.digits import digits_model


class Renaming(ModuleType):
    """A step that gives the model's output another name."""

    def apply(self, model: onnx.ModelProto, *_given: object) -> Applied:
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        changed.graph.output[0].name = changed.graph.node[-1].output[0] = "renamed"
        return Applied(changed)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    digits_model(path)
    return path


def test_a_step_that_changes_what_the_model_gives_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "controller.artifacts.steps.optimize", Renaming("renaming"))
    with pytest.raises(InvalidInput, match="optimize would change what the model takes and gives") as refusal:
        run_step("optimize", {}, model, tmp_path, None, "all")
    assert refusal.value.code == "recipe_inapplicable"
    assert not (tmp_path / "model.onnx").exists()


def test_the_command_line_gives_the_step_its_parameters(model: Path, tmp_path: Path) -> None:
    found = main(["prune_magnitude", '{"sparsity": 0.5}', str(model), str(tmp_path)])
    assert found["files"] == ["model.onnx"]
    assert (tmp_path / "model.onnx").is_file()


def test_a_model_that_means_harm_is_refused_by_every_step_as_by_the_inspection(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(InvalidInput) as refusal:
        run_step("optimize", {}, file, tmp_path, None, "all")
    assert refusal.value.code == "not_onnx"
