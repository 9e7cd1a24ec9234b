"""Removing hidden channels: what is left answers as before as far as it can, and is really smaller."""

import json
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from controller.artifacts.graph.sessions import Session
from controller.artifacts.steps.interface import Applied, Calibration, tell_nobody
from controller.artifacts.steps.parameters import PruneStructured
from controller.artifacts.steps.prune_structured import apply, kept_of
from controller.domain.errors import InvalidInput
from tests.support import chain_networks as networks
from tests.support.digits import HELD_OUT, digits
from tests.support.networks import conv_calibration, conv_network, digits_calibration, digits_network

HALF = networks.CHANNELS // 2
IDLE = np.random.default_rng(9).choice(networks.CHANNELS, HALF, replace=False)
"""Channels that the tests make superfluous."""
every_network = pytest.mark.parametrize("make", networks.PRUNABLE.values(), ids=networks.PRUNABLE)


def answers(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return Session(model.SerializeToString()).run_rows(inputs, networks.ROWS)["y"]


def calibration_of(model: onnx.ModelProto, rows: int = 8 * networks.ROWS) -> Calibration:
    rows_a_run = max(1, model.graph.input[0].type.tensor_type.shape.dim[0].dim_value)
    return Calibration(networks.inputs_for(model, rows, seed=12), rows_a_run)


def prune(model: onnx.ModelProto, calibration: Calibration | None = None, **parameters: object) -> Applied:
    return apply(model, PruneStructured(**{"fraction": 0.5, **parameters}), calibration, tell_nobody)


def reading_axis(model: onnx.ModelProto) -> int:
    # The Conv layers and the Gemm with transB of the networks keep inputs on the second axis.
    return 1 if model.graph.node[-1].op_type == "Conv" or model.graph.node[-1].attribute else 0


def without_reading(model: onnx.ModelProto, channels: np.ndarray) -> None:
    """Let the consumer ignore channels of the chain."""
    axis = reading_axis(model)

    def zeroed(values: np.ndarray) -> np.ndarray:
        by_channel = np.moveaxis(values, axis, 0)
        repeat = len(by_channel) // networks.CHANNELS
        by_channel[(channels[:, None] * repeat + np.arange(repeat)).reshape(-1)] = 0
        return values

    networks.rewrite(model, "w2", zeroed)


@every_network
@pytest.mark.parametrize("calibrated", [False, True], ids=["by weights", "by calibration"])
def test_channels_that_nothing_reads_go_without_a_trace(
    make: Callable[[], onnx.ModelProto], *, calibrated: bool
) -> None:
    model = make()
    without_reading(model, IDLE)
    made = prune(model, calibration_of(model) if calibrated else None, recovery="none")
    (layer,) = made.facts["layers"]
    assert (layer["channels_before"], layer["channels_after"]) == (networks.CHANNELS, HALF)
    inputs = networks.inputs_for(model)
    np.testing.assert_allclose(answers(made.model, inputs), answers(model, inputs), atol=1e-5)


@every_network
def test_least_squares_is_nearer_than_a_bias_and_a_bias_nearer_than_nothing(
    make: Callable[[], onnx.ModelProto],
) -> None:
    model = make()
    calibration = calibration_of(model, 64 * networks.ROWS)
    wanted = answers(model, calibration.inputs)
    missed = {
        recovery: float(
            np.mean((answers(prune(model, calibration, recovery=recovery).model, calibration.inputs) - wanted) ** 2)
        )
        for recovery in ("none", "bias", "least_squares")
    }
    # Kernels meet fewer places at padded borders and instance normalisation leaves no mean: a bias may gain nothing.
    assert missed["least_squares"] < missed["bias"] <= missed["none"] * 1.001
    assert missed["least_squares"] < 0.9 * missed["none"]


@every_network
def test_the_result_is_valid_its_shapes_are_its_own_and_fewer_numbers_are_left(
    make: Callable[[], onnx.ModelProto],
) -> None:
    model = onnx.shape_inference.infer_shapes(make())
    given = model.SerializeToString()
    made = prune(model, calibration_of(model))
    onnx.checker.check_model(made.model, full_check=True)
    assert onnx.shape_inference.infer_shapes(made.model, strict_mode=True) == made.model
    assert made.facts["parameters_after"] < 0.65 * made.facts["parameters_before"]
    assert len(made.model.SerializeToString()) < len(given)
    assert model.SerializeToString() == given
    assert made.model.graph.input == model.graph.input
    assert made.model.graph.output == model.graph.output


@pytest.mark.parametrize("allocation", ["uniform", "sensitivity"])
def test_the_same_is_made_twice(allocation: str) -> None:
    made = [prune(digits_network(), digits_calibration(200), allocation=allocation) for _ in range(2)]
    assert made[0].model.SerializeToString() == made[1].model.SerializeToString()
    assert made[0].facts == made[1].facts
    assert json.loads(json.dumps(made[0].facts)) == made[0].facts


def accuracy(model: onnx.ModelProto) -> float:
    images, labels = digits()
    seen = images[-HELD_OUT:]
    if len(model.graph.input[0].type.tensor_type.shape.dim) == 4:
        seen = seen.reshape(-1, 1, 8, 8)
    scores = Session(model.SerializeToString()).run({"image": seen})["scores"]
    return float((scores.argmax(axis=1) == labels[-HELD_OUT:]).mean())


def test_half_of_a_trained_network_goes_and_least_squares_keeps_its_accuracy() -> None:
    model = digits_network()
    fitted, plain = (prune(model, digits_calibration(), recovery=recovery) for recovery in ("least_squares", "none"))
    assert accuracy(fitted.model) > accuracy(model) - 0.02
    assert accuracy(plain.model) < accuracy(model) - 0.1
    assert (fitted.facts["parameters_before"], fitted.facts["parameters_after"]) == (6570, 2778)
    assert [layer["channels_after"] for layer in fitted.facts["layers"]] == [32, 16]


def test_half_of_a_convolutional_network_goes_and_least_squares_keeps_its_accuracy() -> None:
    model = conv_network()
    fitted, plain = (
        prune(model, conv_calibration(), recovery=recovery, align=2) for recovery in ("least_squares", "none")
    )
    assert accuracy(fitted.model) > accuracy(model) - 0.03
    assert accuracy(plain.model) < accuracy(model) - 0.05
    assert [layer["channels_after"] for layer in fitted.facts["layers"]] == [4, 8]


def test_sensitivity_cuts_the_layer_that_has_channels_to_spare() -> None:
    model = digits_network()
    # The last layer ignores half of what the second gives, so that these channels cost nothing.
    networks.rewrite(model, "w3", lambda values: np.where(np.arange(32)[:, None] < 16, values, np.float32(0)))
    told: list[tuple[float, str]] = []
    parameters = PruneStructured(fraction=0.17, allocation="sensitivity")
    made = apply(model, parameters, digits_calibration(), lambda share, words: told.append((share, words)))
    assert [layer["channels_after"] for layer in made.facts["layers"]] == [64, 16]
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[0][1].startswith("dense2: 24 channels; damage 0.0")
    assert told[-1][0] == 1


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.75])
def test_sensitivity_removes_as_many_channels_as_asked(fraction: float) -> None:
    made = prune(digits_network(), digits_calibration(200), fraction=fraction, allocation="sensitivity")
    left = [layer["channels_after"] for layer in made.facts["layers"]]
    assert sum(left) == 96 * (1 - fraction)
    assert all(size % 8 == 0 for size in left)


@pytest.mark.parametrize(
    ("channels", "fraction", "align", "kept"),
    [(64, 0.5, 8, 32), (100, 0.5, 8, 48), (16, 0.95, 8, 8), (15, 0.9, 8, 15), (9, 0.5, 1, 5), (24, 0.1, 8, 24)],
)
def test_channels_stay_a_multiple_and_small_layers_stay_whole(
    channels: int, fraction: float, align: int, kept: int
) -> None:
    assert kept_of(channels, fraction, align) == kept


def test_facts_name_both_layers_the_damage_and_what_was_not_pruned() -> None:
    made = prune(networks.sequence_gelu(), calibration_of(networks.sequence_gelu()))
    (layer,) = made.facts["layers"]
    assert (layer["name"], layer["consumer"]) == ("first", "second")
    assert layer["damage"]["relative_error"] > 0
    assert made.facts["refused"] == [{"name": "second", "reason": "its output goes to the residual Add 'around'"}]


def test_without_calibration_no_damage_is_claimed() -> None:
    (layer,) = prune(networks.dense_relu(), recovery="none").facts["layers"]
    assert layer["damage"] is None


def test_a_matmul_without_a_bias_gets_an_add_for_what_was_lost_on_average() -> None:
    model = networks.sequence_mean()
    made = prune(model, calibration_of(model), recovery="bias")
    assert [node.op_type for node in made.model.graph.node] == ["MatMul", "Tanh", "ReduceMean", "MatMul", "Add"]
    assert made.model.graph.node[-1].output == ["y"]


def test_a_network_without_a_prunable_layer_is_refused_with_every_reason() -> None:
    with pytest.raises(InvalidInput) as caught:
        prune(networks.residual(), calibration_of(networks.residual()))
    assert caught.value.code == "recipe_inapplicable"
    assert "first: its output also goes to the residual Add 'around'" in caught.value.detail
    assert "second: its output goes to the residual Add 'around'" in caught.value.detail
    assert "third: its output 'y' is an output of the model" in caught.value.detail


def test_layers_smaller_than_twice_the_alignment_are_refused() -> None:
    with pytest.raises(InvalidInput, match="first: its 16 channels are fewer than 32, twice `align`"):
        prune(networks.dense_relu(), recovery="none", align=16)


def test_a_fraction_that_removes_nothing_is_refused_with_what_to_change() -> None:
    with pytest.raises(InvalidInput, match=r"0\.1 of the channels .*first has 16.*raise `fraction` or lower `align`"):
        prune(networks.dense_relu(), fraction=0.1, recovery="none")


def test_a_network_without_weights_in_full_precision_is_refused() -> None:
    model = networks.dense_relu()
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.append(onnx.helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(InvalidInput, match="the model has none; prune before quantizing"):
        prune(model, recovery="none")


def test_recovery_without_calibration_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        prune(networks.dense_relu())
    assert caught.value.code == "calibration_missing"
