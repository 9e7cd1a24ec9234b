"""Self-tests in a child with limits: what a bad model does to the child is its own affair."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from device_agent import selftest as selftest_module
from device_agent.protocol.messages import FailureStage
from device_agent.selftest import run_selftest
from tests.support.attacks import Group, plays
from tests.support.hostile_models import written
from tests.support.onnx_models import model_directory

MEMORY = 256 * 1024**2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, _ = model_directory(tmp_path_factory.mktemp("models"))
    return directory


def test_a_model_that_behaves_passes(model: Path) -> None:
    assert run_selftest(model, memory_bytes=MEMORY, timeout_s=60) is None


def test_a_model_that_does_not_load_fails_at_load_with_the_childs_words(tmp_path: Path) -> None:
    directory, _ = model_directory(tmp_path)
    (directory / "model.onnx").write_bytes(b"no model")
    failure = run_selftest(directory, memory_bytes=MEMORY, timeout_s=60)
    assert failure
    assert (failure.stage, failure.code, failure.refuses) == (FailureStage.LOAD, "E_LOAD", True)
    assert "model.onnx" in failure.message


@plays(Group.LOCAL, "a model names weights outside of its folder, directly or through a link", "E_MANIFEST_PATH")
@pytest.mark.parametrize("location", ["../outside.bin", "/tmp/outside.bin", "link.bin"])
def test_a_model_whose_weights_lie_outside_of_its_folder_is_refused_for_its_paths(
    tmp_path: Path, location: str
) -> None:
    directory, _ = model_directory(tmp_path)
    (tmp_path / "outside.bin").write_bytes(np.ones(4, np.float32).tobytes())
    (directory / "link.bin").symlink_to(tmp_path / "outside.bin")
    weights = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location
    (directory / "model.onnx").write_bytes(written([helper.make_node("Add", ["x", "w"], ["y"])], [weights]))
    failure = run_selftest(directory, memory_bytes=MEMORY, timeout_s=60)
    assert failure
    assert (failure.stage, failure.code, failure.refuses) == (FailureStage.LOAD, "E_MANIFEST_PATH", True)


def test_a_self_test_that_takes_too_long_is_ended(model: Path) -> None:
    failure = run_selftest(model, memory_bytes=MEMORY, timeout_s=0.01)
    assert failure
    assert (failure.code, failure.message) == ("E_LOAD", "self-test took longer than 0.01 s")


def test_a_self_test_that_needs_too_much_memory_fails(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest_module, "_ENGINE_BYTES", 16 * 1024**2)
    failure = run_selftest(model, memory_bytes=1024**2, timeout_s=60)
    assert failure
    assert failure.code == "E_LOAD"
