import sys

import numpy as np
import pytest
from onnx import helper

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.running import damage, run_model
from controller.artifacts.steps import distil_torch
from controller.artifacts.steps.interface import Calibration, tell_nobody
from controller.artifacts.steps.parameters import DistilTorch
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits
from tests.support.networks import as_model, conv_calibration, conv_network, digits_calibration, digits_network

QUICK = DistilTorch(channels=[8], epochs=15)


def test_without_pytorch_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # What Python itself does with None: importing the module fails, whether it is installed or not.
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InvalidInput) as refused:
        distil_torch.apply(conv_network(), DistilTorch(), conv_calibration(), tell_nobody)
    assert (refused.value.code, refused.value.field) == ("distill_missing", "/recipes")
    assert "CPU build first, then: pip install 'edgefleet[distill]'" in refused.value.detail


@pytest.mark.torch
@pytest.mark.parametrize("flat", [False, True])
def test_a_convolutional_student_decides_as_its_teacher_does(flat: bool) -> None:
    teacher, given = (digits_network(), digits_calibration()) if flat else (conv_network(), conv_calibration())
    before = teacher.SerializeToString()
    applied = distil_torch.apply(teacher, QUICK, given, tell_nobody)
    assert applied.facts["agreement"] > 0.95
    unseen = Calibration({"image": digits()[0][-HELD_OUT:].reshape(-1, *given.inputs["image"].shape[1:])}, 1)
    assert damage(run_model(teacher, unseen), run_model(applied.model, unseen)).disagreement < 0.1
    described = [describe(model) for model in (teacher, applied.model)]
    assert described[0].inputs == described[1].inputs
    assert described[0].outputs == described[1].outputs
    assert applied.model.ByteSize() < 7000
    assert teacher.SerializeToString() == before
    assert [layer["name"] for layer in applied.facts["layers"]] == ["convolution1", "dense1"]


@pytest.mark.torch
def test_channels_of_very_different_scale_are_all_learnt_from() -> None:
    """Both channels count alike for the teacher, and the student takes them as they come."""
    images = digits()[0][:400].reshape(-1, 1, 8, 8)
    scales = np.float32([1000, 0.01])[:, None, None]
    given = Calibration({"image": np.concatenate([images, images[::-1]], axis=1) * scales}, 1)
    drawn = np.random.default_rng(0).normal(size=(1, 2, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["maps"]),
        helper.make_node("Flatten", ["maps"], ["scores"], axis=1),
    ]
    teacher = as_model(nodes, {"w": drawn / scales}, inputs={"image": ["n", 2, 8, 8]}, outputs={"scores": ["n", 1]})
    applied = distil_torch.apply(teacher, DistilTorch(channels=[8], augment=4), given, tell_nobody)
    assert applied.facts["image"] == [2, 8, 8]
    assert applied.facts["agreement"] > 0.8


@pytest.mark.torch
def test_the_same_seed_gives_the_same_bytes_and_leaves_the_processs_own_random_numbers_alone() -> None:
    import torch

    torch.manual_seed(5)
    parameters = [DistilTorch(channels=[4], epochs=2, augment=1, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (
        distil_torch.apply(conv_network(), given, conv_calibration(100), tell_nobody).model.SerializeToString()
        for given in parameters
    )
    assert first == again
    assert first != other
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))


@pytest.mark.torch
def test_progress_is_told_epoch_by_epoch() -> None:
    told: list[tuple[float, str]] = []
    parameters = DistilTorch(channels=[4, 4], epochs=3, augment=0)
    distil_torch.apply(conv_network(), parameters, conv_calibration(100), lambda *news: told.append(news))
    assert [words.split(":")[0] for _, words in told[:-1]] == [f"epoch {number} of 3" for number in (1, 2, 3)]
    assert told[-1][0] == 1.0
    assert "agreement" in told[-1][1]


@pytest.mark.torch
def test_a_regression_on_images_is_learnt_by_its_squared_error() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 1)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["image", "w"], ["scores"])]
    teacher = as_model(nodes, {"w": weights}, inputs={"image": ["n", 64]}, outputs={"scores": ["n", 1]})
    applied = distil_torch.apply(teacher, QUICK, digits_calibration(), tell_nobody)
    assert applied.facts["learnt"] == "numbers"
    assert applied.facts["temperature"] is None
    assert applied.facts["agreement"] > 0.8


@pytest.mark.torch
def test_rows_that_are_no_images_are_refused_with_their_shape() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 60)).astype(np.float32)
    nodes = [helper.make_node("Neg", ["image"], ["scores"])]
    teacher = as_model(nodes, {}, inputs={"image": ["n", 60]}, outputs={"scores": ["n", 60]})
    with pytest.raises(InvalidInput) as refused:
        distil_torch.apply(teacher, QUICK, Calibration({"image": rows}, 1), tell_nobody)
    assert refused.value.code == "recipe_inapplicable"
    assert "'image' has rows of [60]; use the step distil" in refused.value.detail
