"""8-bit weights and activations, with scales from calibration."""

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.graph.sessions import Array, Session
from controller.artifacts.steps import quantize_static
from controller.artifacts.steps.interface import Applied, Calibration, tell_nobody
from controller.artifacts.steps.parameters import QuantizeStatic
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits
from tests.support.networks import (
    as_model,
    conv_calibration,
    conv_network,
    digits_calibration,
    digits_network,
    fragile_calibration,
    fragile_network,
)


def apply(model: onnx.ModelProto, calibration: Calibration | None, parameters: QuantizeStatic | None = None) -> Applied:
    return quantize_static.apply(model, parameters or QuantizeStatic(), calibration, tell_nobody)


def decisions(model: onnx.ModelProto) -> Array:
    """The digits that a convolutional network sees in the held-out images."""
    images = digits()[0][-HELD_OUT:].reshape(-1, 1, 8, 8)
    return Session(model.SerializeToString()).run_rows({"image": images}, 1)["scores"].argmax(axis=1)


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def with_rows(model: onnx.ModelProto, rows: int) -> onnx.ModelProto:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = rows
    return model


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_convolutional_network_decides_alike_with_a_quarter_of_the_weights(method: str, per_channel: bool) -> None:
    source = conv_network()
    before = source.SerializeToString()
    applied = apply(source, conv_calibration(), QuantizeStatic(method=method, per_channel=per_channel))  # type: ignore[arg-type]
    assert (decisions(applied.model) == decisions(source)).mean() >= 0.98
    held = sum(array.nbytes for name, array in weights(applied.model).items() if name.endswith("_quantized"))
    assert held < 0.26 * sum(array.nbytes for array in weights(source).values())
    assert applied.model.ByteSize() < 0.34 * source.ByteSize()
    assert source.SerializeToString() == before


def test_the_result_is_a_model_that_devices_can_serve(tmp_path: Path) -> None:
    (tmp_path / "made.onnx").write_bytes(apply(conv_network(), conv_calibration()).model.SerializeToString())
    made = read_model(tmp_path / "made.onnx")
    assert describe(made).precision == "int8"
    assert describe(made).inputs == describe(conv_network()).inputs
    assert [entry.domain for entry in made.opset_import] == [""]
    assert list(made.metadata_props) == []


def test_batch_normalisation_is_folded_into_the_convolution_before_it() -> None:
    operators = describe(apply(conv_network(), conv_calibration()).model).operators
    assert "BatchNormalization" not in operators
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"} <= set(operators)


def test_facts_tell_layers_damage_and_the_rows_that_were_looked_at() -> None:
    facts = apply(conv_network(), conv_calibration(), QuantizeStatic(method="entropy")).facts
    assert [(layer["name"], layer["bits"]) for layer in facts["layers"]] == [("conv1", 8), ("conv2", 8), ("head", 8)]
    assert (facts["weights"], facts["activations"], facts["per_channel"]) == ("int8", "uint8", False)
    assert (facts["method"], facts["rows_calibrated"], facts["rows_compared"]) == ("entropy", 128, 128)
    assert 0 < facts["relative_error"] < 0.1


def test_few_rows_are_all_used() -> None:
    assert apply(digits_network(), digits_calibration(40)).facts["rows_calibrated"] == 40


def test_min_and_max_look_at_more_rows() -> None:
    assert apply(digits_network(), digits_calibration(300)).facts["rows_calibrated"] == 256


@pytest.mark.parametrize(("reduced", "largest"), [(True, 64), (False, 127)])
def test_weights_keep_seven_of_the_eight_bits_unless_told_otherwise(reduced: bool, largest: int) -> None:
    made = apply(digits_network(), digits_calibration(), QuantizeStatic(reduce_range=reduced)).model
    stored = [array for name, array in weights(made).items() if name in ("w1_quantized", "w2_quantized")]
    assert max(int(np.abs(array.astype(int)).max()) for array in stored) == largest
    assert all(array.dtype == np.int8 for array in stored)


def test_a_model_that_fixes_its_rows_is_calibrated_by_as_many_at_a_time() -> None:
    calibration = Calibration(conv_calibration(24).inputs, 4)
    facts = apply(with_rows(conv_network(), 4), calibration).facts
    assert (facts["rows_calibrated"], facts["rows_compared"]) == (24, 24)
    assert facts["disagreement"] <= 1 / 24


def test_named_layers_stay_as_they_are() -> None:
    applied = apply(conv_network(), conv_calibration(), QuantizeStatic(exclude=["conv2"]))
    assert (weights(applied.model)["k2"] == weights(conv_network())["k2"]).all()
    assert [(layer["name"], layer["bits"]) for layer in applied.facts["layers"]] == [
        ("conv1", 8),
        ("conv2", 32),
        ("head", 8),
    ]


def test_a_layer_that_preparation_fuses_is_excluded_by_the_name_it_had() -> None:
    matrices = {f"w{number}": np.eye(8, dtype=np.float32) * number for number in (1, 2)}
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["p"], name="first"),
        helper.make_node("Add", ["p", "b"], ["h"], name="bias"),
        helper.make_node("MatMul", ["h", "w2"], ["y"], name="second"),
    ]
    model = as_model(
        nodes, matrices | {"b": np.ones(8, np.float32)}, inputs={"x": ["rows", 8]}, outputs={"y": ["rows", 8]}
    )
    calibration = Calibration({"x": np.random.default_rng(5).normal(size=(32, 8)).astype(np.float32)}, 1)
    applied = apply(model, calibration, QuantizeStatic(exclude=["first"]))
    assert "w1" in weights(applied.model)
    assert [layer["excluded"] for layer in applied.facts["layers"]] == [True, False]


def test_a_node_that_was_folded_away_cannot_be_excluded() -> None:
    with pytest.raises(InvalidInput, match=r"'norm1'.*conv1, relu1, conv2") as refused:
        apply(conv_network(), conv_calibration(), QuantizeStatic(exclude=["norm1"]))
    assert refused.value.code == "recipe_parameters"


def test_the_layer_that_does_the_damage_is_found_and_left_alone() -> None:
    source, calibration = fragile_network(), fragile_calibration()
    told: list[str] = []
    assert apply(source, calibration).facts["disagreement"] > 0.3
    facts = quantize_static.apply(
        source, QuantizeStatic(exclude="measured"), calibration, lambda _, words: told.append(words)
    ).facts
    assert [(layer["name"], layer["excluded"]) for layer in facts["layers"]] == [("sturdy", False), ("fragile", True)]
    assert facts["disagreement"] == 0.0
    assert [words for words in told if words.startswith("fragile quantized alone: damage ")]


def test_measuring_gives_the_same_graph_where_nothing_is_left_alone() -> None:
    """Later runs take the ranges that the first has written down, and must not differ by them."""
    plain, tried = (
        apply(digits_network(), digits_calibration(), QuantizeStatic(exclude=exclude))
        for exclude in ("none", "measured")
    )
    assert not any(layer["excluded"] for layer in tried.facts["layers"])
    assert tried.model.SerializeToString() == plain.model.SerializeToString()


HASHED = """
import hashlib, sys
import numpy, onnx
from controller.artifacts.steps import quantize_static
from controller.artifacts.steps.interface import Calibration, tell_nobody
from controller.artifacts.steps.parameters import QuantizeStatic

model, rows = onnx.load(sys.argv[1]), numpy.load(sys.argv[2])
made = quantize_static.apply(model, QuantizeStatic(), Calibration({"image": rows}, 1), tell_nobody).model
print(hashlib.sha256(made.SerializeToString()).hexdigest())
"""


def test_the_same_graph_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """The library keeps tensors in sets, whose order differs from process to process."""
    source, calibration = conv_network(), conv_calibration(64)
    onnx.save(source, tmp_path / "source.onnx")
    np.save(tmp_path / "rows.npy", calibration.inputs["image"])
    here = hashlib.sha256(apply(source, calibration).model.SerializeToString()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HASHED, str(tmp_path / "source.onnx"), str(tmp_path / "rows.npy")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == here


def test_without_calibration_data_it_is_refused() -> None:
    with pytest.raises(InvalidInput, match="quantize_static learns from inputs") as refused:
        apply(conv_network(), None)
    assert refused.value.code == "calibration_missing"


def test_a_quantized_model_is_refused() -> None:
    made = apply(conv_network(), conv_calibration()).model
    with pytest.raises(InvalidInput, match=r"DequantizeLinear.*quantized already; leave int8 out"):
        apply(made, conv_calibration())


def test_a_graph_that_the_runtime_has_fused_is_refused(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(conv_network().SerializeToString(), options, providers=["CPUExecutionProvider"])
    with pytest.raises(InvalidInput, match=r"com\.microsoft\.FusedConv"):
        apply(onnx.load(tmp_path / "fused.onnx"), conv_calibration())


def test_a_model_without_layers_is_refused_with_its_operators() -> None:
    model = as_model(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        {"w": np.ones((1, 8), np.float32)},
        inputs={"x": ["rows", 8]},
        outputs={"y": ["rows", 8]},
    )
    with pytest.raises(InvalidInput, match=r"its operators: Mul\); leave int8 out"):
        apply(model, Calibration({"x": np.ones((4, 8), np.float32)}, 1))


def test_the_quantizer_says_nothing_and_leaves_logging_as_it_was(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), root.manager.disable)
    apply(digits_network(), digits_calibration(), QuantizeStatic(method="entropy"))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert (root.level, list(root.handlers), root.manager.disable) == before
