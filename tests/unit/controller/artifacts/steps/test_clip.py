import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from controller.artifacts.graph.bounds import FRACTIONS, by_least_error, by_percentile, grid_error
from controller.artifacts.graph.clipping import clip_points
from controller.artifacts.graph.running import activations, run_model
from controller.artifacts.graph.weights import weights_of
from controller.artifacts.steps import clip
from controller.artifacts.steps.interface import tell_nobody
from controller.artifacts.steps.parameters import Clip
from controller.domain.errors import InvalidInput
from tests.support.networks import as_model, digits_calibration, digits_network


def one_layer(matrix: np.ndarray) -> onnx.ModelProto:
    rows, columns = matrix.shape
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")
    return as_model([node], {"w": matrix}, inputs={"x": ["rows", rows]}, outputs={"y": ["rows", columns]})


def matrix_with_outliers() -> np.ndarray:
    matrix = np.random.default_rng(1).normal(size=(64, 32)).astype(np.float32)
    matrix[0, 0], matrix[5, 7] = 60.0, -55.0
    return matrix


def weight_values(model: onnx.ModelProto) -> np.ndarray:
    return weights_of(model)[0].values


def test_the_least_error_bound_has_the_smallest_error_of_all_bounds_tried() -> None:
    rows = np.random.default_rng(2).laplace(size=(1, 3000)).astype(np.float32)
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    found = grid_error(rows, by_least_error(rows, 4), 4)
    tried = [grid_error(rows, largest * fraction, 4) for fraction in FRACTIONS]
    assert found == pytest.approx(min(tried), rel=1e-6)
    assert found < 0.6 * grid_error(rows, largest, 4)


def test_a_row_of_more_numbers_than_are_searched_keeps_its_outliers_in_view() -> None:
    rows = np.random.default_rng(3).normal(size=(1, 1_500_000)).astype(np.float32)
    rows[0, 77] = 2000.0
    # Cutting the outlier off costs four million; a grid up to it costs each of the others no more than their square.
    assert by_least_error(rows, 8)[0] > 1500


def test_one_outlier_at_low_bits_is_saturated_and_clipping_pays() -> None:
    applied = clip.apply(
        one_layer(matrix_with_outliers()), Clip(bits=4, bound="percentile", value=99.0), None, tell_nobody
    )
    (layer,) = applied.facts["layers"]
    assert np.abs(weight_values(applied.model)).max() == np.float32(layer["bound"])
    assert layer["bound"] < 4
    assert layer["clipped"] == pytest.approx(0.01, abs=0.002)
    assert applied.facts["pays"] is (layer["error_after"] < layer["error_before"])


def test_even_weights_are_not_worth_clipping_and_the_facts_say_so() -> None:
    even = np.linspace(-1, 1, 2048, dtype=np.float32).reshape(64, 32)
    applied = clip.apply(one_layer(even), Clip(bound="percentile", value=60.0), None, tell_nobody)
    assert applied.facts["pays"] is False
    assert "does not pay" in applied.facts["words"]
    assert applied.facts["layers"][0]["clipped"] == pytest.approx(0.4, abs=0.01)


def test_least_error_pays_at_four_bits_on_a_trained_network() -> None:
    facts = clip.apply(digits_network(), Clip(bits=4), digits_calibration(100), tell_nobody).facts
    assert facts["pays"] is True
    assert [layer["name"] for layer in facts["layers"]] == ["w1", "w2", "w3"]
    assert all(layer["error_after"] <= layer["error_before"] for layer in facts["layers"])
    assert 0 < facts["damage"]["relative_error"] < 0.1


def test_sigma_saturates_at_so_many_standard_deviations() -> None:
    matrix = matrix_with_outliers()
    applied = clip.apply(one_layer(matrix), Clip(bound="sigma", value=3.0), None, tell_nobody)
    assert applied.facts["layers"][0]["bound"] == pytest.approx(3 * matrix.std(), rel=1e-5)


def test_per_channel_an_outlier_costs_its_own_channel_only() -> None:
    matrix = matrix_with_outliers()
    changed = weight_values(
        clip.apply(one_layer(matrix), Clip(bound="sigma", value=4.5, per="channel"), None, tell_nobody).model
    )
    assert changed[0, 0] < 60.0
    np.testing.assert_array_equal(np.delete(changed, [0, 7], axis=1), np.delete(matrix, [0, 7], axis=1))


def test_a_pruned_row_whose_percentile_is_zero_is_not_erased() -> None:
    rows = np.zeros((1, 100), np.float32)
    rows[0, :3] = [1.0, -2.0, 0.5]
    assert by_percentile(rows, 90.0)[0] == 2.0


def test_activations_are_clipped_behind_their_relu_from_zero_to_the_bound() -> None:
    source, calibration = digits_network(), digits_calibration(100)
    applied = clip.apply(source, Clip(bound="percentile", value=95.0, activations=True), calibration, tell_nobody)
    onnx.checker.check_model(applied.model)
    clips = [node for node in applied.model.graph.node if node.op_type == "Clip"]
    assert [node.output[0] for node in clips] == ["a1", "a2"]
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in applied.model.graph.initializer}
    assert [initializers[node.input[1]] for node in clips] == [0.0, 0.0]
    seen = activations(applied.model, ["a1"], calibration)["a1"]
    assert seen.max() == pytest.approx(applied.facts["activations"][0]["bound"])
    assert applied.facts["activations"][0]["clipped"] == pytest.approx(0.05, abs=0.002)
    assert applied.facts["damage"]["disagreement"] < 0.1


def test_activations_without_a_relu_are_clipped_on_both_sides_behind_their_bias() -> None:
    matrix = np.random.default_rng(4).normal(size=(64, 64)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["image", "w1"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w2"], ["scores"]),
    ]
    source = as_model(
        nodes,
        {"w1": matrix, "w2": matrix[:, :10].copy(), "bias": np.ones(64, np.float32)},
        inputs={"image": ["rows", 64]},
        outputs={"scores": ["rows", 10]},
    )
    applied = clip.apply(source, Clip(bits=3, activations=True), digits_calibration(50), tell_nobody)
    (found,) = applied.facts["activations"]
    assert (found["name"], found["lower"]) == ("sum", -found["bound"])
    assert run_model(applied.model, digits_calibration(50))["scores"].shape == (50, 10)


def test_a_model_of_one_layer_has_no_place_for_a_clip_node() -> None:
    with pytest.raises(InvalidInput, match="set activations to false") as refused:
        clip.apply(one_layer(np.ones((64, 10), np.float32)), Clip(activations=True), digits_calibration(5), tell_nobody)
    assert refused.value.code == "recipe_inapplicable"


def test_activations_without_calibration_are_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        clip.apply(digits_network(), Clip(activations=True), None, tell_nobody)
    assert refused.value.code == "calibration_missing"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (Clip(bound="least_error", value=3.0), "takes no value, and 3.0 was given"),
        (Clip(bound="percentile"), "needs a value"),
        (Clip(bound="sigma"), "needs a value"),
        (Clip(bound="percentile", value=49.9), "percentile 49.9 is not"),
        (Clip(bound="percentile", value=100.0), "percentile 100.0 is not"),
        (Clip(bound="sigma", value=0.0), "0.0 standard deviations are no bound"),
        (Clip(bound="sigma", value=float("inf")), "inf standard deviations are no bound"),
    ],
)
def test_a_value_that_does_not_go_with_the_bound_is_refused(parameters: Clip, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        clip.apply(digits_network(), parameters, None, tell_nobody)
    assert (refused.value.code, refused.value.field) == ("recipe_parameters", "/recipes")


def test_a_model_without_weights_is_refused() -> None:
    bare = as_model([helper.make_node("Relu", ["x"], ["y"])], {}, inputs={"x": ["rows", 4]}, outputs={"y": ["rows", 4]})
    with pytest.raises(InvalidInput, match="this model has none") as refused:
        clip.apply(bare, Clip(), None, tell_nobody)
    assert refused.value.code == "recipe_inapplicable"


def test_the_same_graph_gives_the_same_bytes_and_stays_as_it_is() -> None:
    source, calibration = digits_network(), digits_calibration(50)
    before = source.SerializeToString()
    first, second = (
        clip.apply(source, Clip(bits=4, per="channel", activations=True), calibration, tell_nobody) for _ in range(2)
    )
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert first.facts == second.facts
    assert source.SerializeToString() == before


def test_activations_of_a_model_from_before_opset_11_are_refused_with_what_to_do() -> None:
    model = digits_network()
    model.opset_import[0].version = 10
    with pytest.raises(InvalidInput, match="from opset 11 on, and the model has 10") as refusal:
        clip_points(model)
    assert refusal.value.code == "recipe_inapplicable"
