from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scipy.signal import correlate

from controller.artifacts.graph.sessions import Session
from controller.artifacts.graph.students import (
    Convolution,
    Dense,
    Signature,
    convolutional_student,
    dense_student,
    outline,
)

ROWS = np.random.default_rng(0).normal(size=(7, 12)).astype(np.float32)


def signature(
    *sizes: int, scores: list[int | str] | None = None, label: bool = False, rows: int | str = "rows", name: str = "x"
) -> Signature:
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, scores or [rows, 3])]
    if label:
        outputs.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, [rows]))
    taken = helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, *sizes])
    return Signature(taken, tuple(outputs), "scores", len(scores or "xx") == 1, "label" if label else None, 17, 8)


def dense(*widths: int) -> list[Dense]:
    drawn = np.random.default_rng(1)
    return [
        Dense(drawn.normal(size=(before, after)).astype(np.float32), drawn.normal(size=after).astype(np.float32))
        for before, after in pairwise(widths)
    ]


def by_hand(layers: list[Dense], flowing: np.ndarray) -> np.ndarray:
    for layer in layers[:-1]:
        flowing = np.maximum(flowing @ layer.weights + layer.biases, 0)
    return flowing @ layers[-1].weights + layers[-1].biases


def answers(model: onnx.ModelProto, rows: np.ndarray, name: str = "x") -> dict[str, np.ndarray]:
    return Session(model.SerializeToString()).run({name: rows})


@pytest.mark.parametrize("widths", [(12, 3), (12, 5, 3), (12, 8, 6, 3)])
def test_dense_layers_compute_what_they_should(widths: tuple[int, ...]) -> None:
    layers = dense(*widths)
    model = dense_student(signature(12), layers, ending=None)
    np.testing.assert_allclose(answers(model, ROWS)["scores"], by_hand(layers, ROWS), rtol=1e-4, atol=1e-4)


def test_the_signature_is_the_teachers_with_its_free_rows() -> None:
    given = signature(3, 2, 2, label=True)
    model = dense_student(given, dense(12, 5, 3), ending="Softmax")
    assert list(model.graph.input) == [given.input]
    assert tuple(model.graph.output) == given.outputs
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)


def test_inputs_of_several_dimensions_are_flattened() -> None:
    layers = dense(12, 3)
    model = dense_student(signature(3, 2, 2), layers, ending=None)
    found = answers(model, ROWS.reshape(-1, 3, 2, 2))["scores"]
    np.testing.assert_allclose(found, by_hand(layers, ROWS), rtol=1e-4, atol=1e-4)


def test_probabilities_add_up_and_the_label_is_the_largest() -> None:
    layers = dense(12, 3)
    found = answers(dense_student(signature(12, label=True), layers, ending="Softmax"), ROWS)
    np.testing.assert_allclose(found["scores"].sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found["label"], by_hand(layers, ROWS).argmax(axis=1))
    assert found["label"].dtype == np.int64


def test_one_number_a_row_keeps_the_teachers_single_dimension() -> None:
    layers = dense(12, 4, 1)
    found = answers(dense_student(signature(12, scores=["rows"]), layers, ending=None), ROWS)["scores"]
    np.testing.assert_allclose(found, by_hand(layers, ROWS)[:, 0], rtol=1e-4, atol=1e-4)


def test_a_fixed_number_of_rows_stays_fixed() -> None:
    model = dense_student(signature(12, rows=1), dense(12, 3), ending=None)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert answers(model, ROWS[:1])["scores"].shape == (1, 3)


def test_an_input_with_the_name_of_a_weight_does_no_harm() -> None:
    layers = dense(12, 3)
    model = dense_student(signature(12, name="dense1_weights"), layers, ending=None)
    found = answers(model, ROWS, "dense1_weights")["scores"]
    np.testing.assert_allclose(found, by_hand(layers, ROWS), rtol=1e-4, atol=1e-4)


def convolutions(*channels: int, halved: tuple[bool, ...]) -> list[Convolution]:
    drawn = np.random.default_rng(2)
    return [
        Convolution(drawn.normal(size=(after, before, 3, 3)).astype(np.float32), drawn.normal(size=after), half)
        for before, after, half in zip(channels[:-1], channels[1:], halved, strict=True)
    ]


def convolved(image: np.ndarray, layer: Convolution) -> np.ndarray:
    maps = [
        sum(correlate(channel, kernel, "same") for channel, kernel in zip(image, kernels, strict=True)) + bias
        for kernels, bias in zip(layer.weights, layer.biases, strict=True)
    ]
    result = np.maximum(np.stack(maps), 0)
    if layer.halved:
        count, height, width = result.shape
        result = result[:, : height // 2 * 2, : width // 2 * 2]
        result = result.reshape(count, height // 2, 2, width // 2, 2).max(axis=(2, 4))
    return result


@pytest.mark.parametrize(("side", "flat"), [(9, False), (9, True), (36, False)])
def test_convolutions_compute_what_they_should(side: int, flat: bool) -> None:
    plan = outline(side, side, [2, 3])
    layers = convolutions(1, 2, 3, halved=plan.halved)
    (head,) = dense(plan.features, 3)
    images = np.random.default_rng(3).normal(size=(4, 1, side, side)).astype(np.float32)
    sizes, rows = ((side * side,), images.reshape(4, -1)) if flat else ((1, side, side), images)
    model = convolutional_student(signature(*sizes), (1, side, side), layers, head, ending=None)
    maps = [convolved(convolved(image, layers[0]), layers[1]) for image in images]
    features = np.stack([kept.mean(axis=(1, 2)) if plan.averaged else kept.ravel() for kept in maps])
    np.testing.assert_allclose(answers(model, rows)["scores"], by_hand([head], features), rtol=1e-3, atol=1e-3)


def test_small_maps_are_neither_halved_nor_averaged_and_large_ones_are_both() -> None:
    assert outline(8, 8, [8, 16, 4]).halved == (True, True, False)
    assert outline(8, 8, [8]).features == 8 * 16
    assert not outline(16, 16, [8]).averaged
    assert outline(64, 64, [8, 16]).averaged
    assert outline(64, 64, [8, 16]).features == 16


def test_a_single_probability_ends_with_a_sigmoid_also_as_a_plain_row_of_numbers() -> None:
    layers = dense(12, 5, 1)
    found = answers(dense_student(signature(12, scores=["rows"]), layers, ending="Sigmoid"), ROWS)["scores"]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-by_hand(layers, ROWS)[:, 0])), rtol=1e-4, atol=1e-5)
