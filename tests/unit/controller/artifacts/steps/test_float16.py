import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.running import damage, run_model
from controller.artifacts.steps import float16
from controller.artifacts.steps.interface import Calibration, tell_nobody
from controller.artifacts.steps.parameters import Float16
from controller.domain.errors import InvalidInput
from tests.support.networks import as_model, conv_calibration, conv_network, digits_network


def chain(first: np.ndarray, second: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["middle"]),
        helper.make_node("MatMul", ["middle", "second"], ["y"]),
    ]
    weights = {"first": first.astype(np.float32), "second": second.astype(np.float32)}
    return as_model(nodes, weights, inputs={"x": ["rows", 4]}, outputs={"y": ["rows", 4]})


def small_inputs() -> Calibration:
    return Calibration({"x": np.random.default_rng(0).uniform(0.1, 1, (16, 4)).astype(np.float32)}, 1)


def types(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_every_weight_is_halved_and_the_answers_stay_close() -> None:
    source, calibration = conv_network(), conv_calibration(100)
    applied = float16.apply(source, Float16(), calibration, tell_nobody)
    onnx.checker.check_model(applied.model, full_check=True)
    assert set(types(applied.model).values()) == {TensorProto.FLOAT16}
    assert applied.model.ByteSize() < 0.52 * source.ByteSize()
    assert applied.facts["share"] == 1.0
    assert 0 < applied.facts["largest_relative_error"] < 2e-3
    assert applied.facts["compared_on"] == "calibration"
    assert damage(run_model(source, calibration), run_model(applied.model, calibration)).relative_error < 2e-3


def test_inputs_and_outputs_keep_their_type() -> None:
    before = describe(digits_network())
    after = describe(float16.apply(digits_network(), Float16(), None, tell_nobody).model)
    assert (after.inputs, after.outputs, after.precision) == (before.inputs, before.outputs, "fp16")


def test_a_weight_beyond_fp16_keeps_its_layer_in_fp32() -> None:
    large, small = np.eye(4), np.eye(4) / 1000
    large[0, 0] = 1e5
    source = chain(small, large)
    applied = float16.apply(source, Float16(), small_inputs(), tell_nobody)
    assert types(applied.model) == {"first": TensorProto.FLOAT16, "second": TensorProto.FLOAT}
    assert applied.facts["kept_fp32"] == [{"name": "second", "largest": 1e5}]
    assert applied.facts["share"] == 0.5
    assert applied.facts["largest_relative_error"] < 2e-3


def test_a_constant_node_beyond_fp16_keeps_its_value() -> None:
    nodes = [
        helper.make_node("Constant", [], ["large"], value_float=-1e30),
        helper.make_node("Less", ["x", "half"], ["below"]),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Where", ["below", "large", "product"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["y"], axis=1),
    ]
    weights = {"half": np.float32([0.5]), "w": np.eye(4, dtype=np.float32)}
    source = as_model(nodes, weights, inputs={"x": ["rows", 4]}, outputs={"y": ["rows", 4]})
    rows = np.float32([[0.1, 0.9, 0.8, 0.2], [0.9, 0.1, 0.1, 0.7]])
    applied = float16.apply(source, Float16(), Calibration({"x": rows}, 1), tell_nobody)
    assert [kept["name"] for kept in applied.facts["kept_fp32"]] == ["large"]
    assert applied.facts["largest_relative_error"] < 2e-3


def test_activations_beyond_fp16_are_refused_with_the_name_of_the_tensor() -> None:
    with pytest.raises(InvalidInput, match=r"'middle' reaches 1\.\d+e\+05, and FP16 ends at 65504") as refused:
        float16.apply(chain(np.full((4, 4), 5e4), np.eye(4) / 1e4), Float16(), small_inputs(), tell_nobody)
    assert refused.value.code == "recipe_inapplicable"


def test_a_model_without_fp32_weights_is_refused() -> None:
    halved = float16.apply(digits_network(), Float16(), None, tell_nobody).model
    with pytest.raises(InvalidInput, match="this model has none") as refused:
        float16.apply(halved, Float16(), None, tell_nobody)
    assert refused.value.code == "recipe_inapplicable"


def test_a_model_all_of_whose_weights_must_stay_fp32_is_refused() -> None:
    node = helper.make_node("Max", ["x", "w"], ["y"])
    source = as_model([node], {"w": np.ones(4, np.float32)}, inputs={"x": ["rows", 4]}, outputs={"y": ["rows", 4]})
    with pytest.raises(InvalidInput, match="works in FP32 only"):
        float16.apply(source, Float16(), None, tell_nobody)


def test_the_same_graph_gives_the_same_bytes_and_stays_as_it_is() -> None:
    source = conv_network()
    before = source.SerializeToString()
    first, second = (float16.apply(source, Float16(), None, tell_nobody).model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert source.SerializeToString() == before
