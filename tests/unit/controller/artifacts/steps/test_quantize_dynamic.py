"""8-bit weights without calibration."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.graph.sessions import Session, Tensors
from controller.artifacts.steps import quantize_dynamic
from controller.artifacts.steps.interface import Applied, Calibration, tell_nobody
from controller.artifacts.steps.parameters import QuantizeDynamic
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits
from tests.support.networks import (
    as_model,
    conv_network,
    digits_calibration,
    digits_network,
    fragile_calibration,
    fragile_network,
)


def apply(
    model: onnx.ModelProto, parameters: QuantizeDynamic | None = None, calibration: Calibration | None = None
) -> Applied:
    return quantize_dynamic.apply(model, parameters or QuantizeDynamic(), calibration, tell_nobody)


def right(model: onnx.ModelProto, inputs: Tensors) -> float:
    """Share of the held-out digits that the model names, asked one by one."""
    scores = Session(model.SerializeToString()).run_rows(inputs, 1)["scores"]
    return float((scores.argmax(axis=1) == digits()[1][-HELD_OUT:]).mean())


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_digits_lose_less_than_a_point_and_the_file_shrinks(tmp_path: Path) -> None:
    source = digits_network()
    before = source.SerializeToString()
    applied = apply(source)
    held_out = {"image": digits()[0][-HELD_OUT:]}
    assert right(applied.model, held_out) > right(source, held_out) - 0.01
    assert applied.model.ByteSize() < 0.4 * source.ByteSize()
    assert source.SerializeToString() == before
    (tmp_path / "made.onnx").write_bytes(applied.model.SerializeToString())
    assert describe(read_model(tmp_path / "made.onnx")).precision == "int8"


def test_the_same_graph_gives_the_same_bytes() -> None:
    made = [apply(conv_network()).model.SerializeToString() for _ in range(2)]
    assert made[0] == made[1]


def test_facts_name_every_layer_with_its_bits() -> None:
    facts = apply(digits_network()).facts
    assert facts["weights"] == "int8"
    assert facts["per_channel"] is True
    assert [layer["name"] for layer in facts["layers"]] == ["dense1", "dense2", "dense3"]
    assert {(layer["bits"], layer["excluded"], layer["damage"]) for layer in facts["layers"]} == {(8, False, None)}
    assert "relative_error" not in facts


def test_calibration_data_tell_how_far_the_answers_strayed() -> None:
    facts = apply(digits_network(), calibration=digits_calibration()).facts
    assert facts["rows_compared"] == 128
    assert 0 < facts["relative_error"] < 0.1
    assert facts["disagreement"] < 0.02


@pytest.mark.parametrize(("reduced", "largest"), [(True, 64), (False, 127)])
def test_weights_keep_seven_of_the_eight_bits_unless_told_otherwise(reduced: bool, largest: int) -> None:
    made = apply(digits_network(), QuantizeDynamic(reduce_range=reduced)).model
    stored = [array for name, array in weights(made).items() if name.endswith("_quantized")]
    assert max(int(np.abs(array.astype(int)).max()) for array in stored) == largest


def test_scales_are_given_by_channel_or_one_for_a_layer() -> None:
    by_channel, by_tensor = (
        weights(apply(digits_network(), QuantizeDynamic(per_channel=per_channel)).model)
        for per_channel in (True, False)
    )
    assert by_channel["w1_scale"].size == 64
    assert by_tensor["w1_scale"].size == 1


def test_named_layers_stay_as_they_are() -> None:
    applied = apply(digits_network(), QuantizeDynamic(exclude=["dense1"]))
    kept = weights(applied.model)
    assert (kept["w1"] == weights(digits_network())["w1"]).all()
    assert "w2" not in kept
    assert [(layer["bits"], layer["excluded"]) for layer in applied.facts["layers"]] == [
        (32, True),
        (8, False),
        (8, False),
    ]


def test_the_layer_that_does_the_damage_is_found_and_left_alone() -> None:
    source, calibration = fragile_network(), fragile_calibration()
    harmed = apply(source, calibration=calibration).facts
    assert harmed["disagreement"] > 0.3
    facts = apply(source, QuantizeDynamic(exclude="measured"), calibration).facts
    assert [(layer["name"], layer["excluded"]) for layer in facts["layers"]] == [("sturdy", False), ("fragile", True)]
    assert facts["layers"][1]["damage"] > 0.3
    assert facts["disagreement"] == 0.0


def test_measured_exclusions_need_calibration_data() -> None:
    with pytest.raises(InvalidInput, match="quantize_dynamic learns from inputs") as refused:
        apply(digits_network(), QuantizeDynamic(exclude="measured"))
    assert refused.value.code == "calibration_missing"


def test_excluding_every_layer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="exclude names every layer") as refused:
        apply(digits_network(), QuantizeDynamic(exclude=["dense1", "dense2", "dense3"]))
    assert refused.value.code == "recipe_inapplicable"


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'dense7'") as refused:
        apply(digits_network(), QuantizeDynamic(exclude=["dense7"]))
    assert refused.value.code == "recipe_parameters"


def test_a_quantized_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"DynamicQuantizeLinear.*quantized already; leave int8 out") as refused:
        apply(apply(digits_network()).model)
    assert refused.value.code == "recipe_inapplicable"


def test_a_graph_that_the_runtime_has_fused_is_refused_with_its_operators(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(conv_network().SerializeToString(), options, providers=["CPUExecutionProvider"])
    with pytest.raises(InvalidInput, match=r"com\.microsoft\.FusedConv.*as it was exported") as refused:
        apply(onnx.load(tmp_path / "fused.onnx"))
    assert refused.value.code == "recipe_inapplicable"


def test_a_model_without_weights_in_matrices_is_refused_with_its_operators() -> None:
    model = as_model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        {"w": np.ones((1, 8), np.float32)},
        inputs={"x": ["rows", 8]},
        outputs={"y": ["rows", 8]},
    )
    with pytest.raises(InvalidInput, match=r"next to none there \(its operators: Mul\); leave int8 out"):
        apply(model)


def test_a_model_that_keeps_most_weights_elsewhere_is_refused() -> None:
    model = as_model(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "large"], ["y"])],
        {"w": np.eye(4, dtype=np.float32), "large": np.ones((64, 1, 4), np.float32)},
        inputs={"x": ["rows", 4]},
        outputs={"y": [64, "rows", 4]},
    )
    with pytest.raises(InvalidInput, match="next to none there") as refused:
        apply(model)
    assert refused.value.code == "recipe_inapplicable"


def test_what_the_quantizer_stumbles_over_is_told_in_its_words() -> None:
    broken = digits_network()
    broken.opset_import[0].domain = "ai.nobody"
    with pytest.raises(
        InvalidInput, match=r"onnxruntime's quantizer fails on this graph: \[TypeInferenceError\] .* dense1"
    ) as refused:
        apply(broken)
    assert refused.value.code == "recipe_inapplicable"


def test_the_quantizer_says_nothing_and_leaves_logging_as_it_was(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), root.manager.disable)
    apply(digits_network())
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert (root.level, list(root.handlers), root.manager.disable) == before


def test_lookup_tables_are_quantized_too() -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"], name="lookup")],
        "lookup",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])],
        [onnx.numpy_helper.from_array(np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32), "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    applied = apply(model)
    assert applied.facts["layers"] == [{"name": "lookup", "bits": 8, "excluded": False, "damage": None}]
    assert weights(applied.model)["table_quantized"].itemsize == 1
