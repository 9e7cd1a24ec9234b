"""Large matrices in blocks of few bits, tables in rows of eight."""

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.graph.sessions import Array, Session
from controller.artifacts.steps import quantize_weights
from controller.artifacts.steps.interface import Applied, Calibration, tell_nobody
from controller.artifacts.steps.parameters import QuantizeWeights
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits
from tests.support.networks import as_model, conv_calibration, conv_network, digits_network

WORDS = 800


def apply(
    model: onnx.ModelProto, parameters: QuantizeWeights | None = None, calibration: Calibration | None = None
) -> Applied:
    return quantize_weights.apply(model, parameters or QuantizeWeights(), calibration, tell_nobody)


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def answers(model: onnx.ModelProto, name: str, rows: Array) -> Array:
    (answer,) = Session(model.SerializeToString()).run({name: rows}).values()
    return answer


def text_network() -> onnx.ModelProto:
    """Five words to 40 scores: a table of 800 x 96, their mean, and a transposed matrix of 96 x 48."""
    drawn = np.random.default_rng(4)
    held = {"table": drawn.normal(size=(WORDS, 96)), "w": drawn.normal(size=(48, 96)), "axes": np.array([1])}
    held["table"][7] = 0.0
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["looked"], name="lookup"),
        helper.make_node("ReduceMean", ["looked"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "w"], ["scores"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "text",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 48])],
        [numpy_helper.from_array(held[name].astype(np.float32), name) for name in ("table", "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def words(rows: int = 64) -> Array:
    return np.random.default_rng(8).integers(0, WORDS, (rows, 5))


def three_matrices(outlier: float) -> onnx.ModelProto:
    """Three matrices of 64 x 64 in a row; in the third, one weight of each block is as large as told.

    All columns share it, so that it decides nothing, and leaves few steps for the weights that do.
    """
    drawn = np.random.default_rng(9)
    held = {name: (drawn.normal(size=(64, 64)) / 8).astype(np.float32) for name in ("a", "b", "c")}
    held["c"][::32] = outlier
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["p"], name="first"),
        helper.make_node("MatMul", ["p", "b"], ["q"], name="second"),
        helper.make_node("MatMul", ["q", "c"], ["y"], name="third"),
    ]
    return as_model(nodes, held, inputs={"x": ["rows", 64]}, outputs={"y": ["rows", 64]})


@pytest.mark.parametrize(
    ("bits", "symmetric", "share", "error"),
    [(4, True, 0.17, 0.15), (4, False, 0.18, 0.15), (8, True, 0.29, 0.02), (8, False, 0.3, 0.02)],
)
def test_a_matrix_takes_its_bits_and_a_scale_for_each_block(
    bits: int, symmetric: bool, share: float, error: float
) -> None:
    source = conv_network()
    before = source.SerializeToString()
    applied = apply(source, QuantizeWeights(bits=bits, symmetric=symmetric), conv_calibration())  # type: ignore[arg-type]
    held = sum(array.nbytes for name, array in weights(applied.model).items() if name.startswith("w3"))
    assert held < share * weights(source)["w3"].nbytes
    assert 0 < applied.facts["relative_error"] < error
    images = digits()[0][-HELD_OUT:].reshape(-1, 1, 8, 8)
    alike = answers(applied.model, "image", images).argmax(1) == answers(source, "image", images).argmax(1)
    assert alike.mean() >= 0.98
    assert source.SerializeToString() == before


def test_the_result_is_a_model_that_devices_can_serve(tmp_path: Path) -> None:
    (tmp_path / "made.onnx").write_bytes(apply(conv_network()).model.SerializeToString())
    made = describe(read_model(tmp_path / "made.onnx"))
    assert "com.microsoft.MatMulNBits" in made.operators
    assert made.outputs == describe(conv_network()).outputs


def test_the_same_graph_gives_the_same_bytes() -> None:
    parameters = QuantizeWeights(embeddings=True)
    made = [apply(text_network(), parameters).model.SerializeToString() for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize("block_size", [16, 32, 64, 128])
def test_smaller_blocks_follow_the_weights_more_closely_and_take_more_scales(block_size: int) -> None:
    made = weights(apply(conv_network(), QuantizeWeights(block_size=block_size)).model)  # type: ignore[arg-type]
    assert made["w3_scales"].size == 10 * 1024 // block_size


def test_small_matrices_and_convolutions_stay_as_they_are() -> None:
    applied = apply(digits_network())
    assert [layer["name"] for layer in applied.facts["layers"]] == ["dense1"]
    kept = weights(applied.model)
    assert {"w2", "w3"} <= set(kept)
    assert "w1" not in kept


def test_facts_tell_what_was_done() -> None:
    facts = apply(conv_network(), QuantizeWeights(bits=4, block_size=64)).facts
    assert facts["layers"] == [{"name": "head", "bits": 4, "excluded": False, "damage": None}]
    assert (facts["weights"], facts["block_size"], facts["symmetric"]) == ("int4", 64, True)


def test_a_table_becomes_rows_with_a_scale_each() -> None:
    source = text_network()
    applied = apply(source, QuantizeWeights(bits=8, embeddings=True), Calibration({"ids": words()}, 1))
    held = weights(applied.model)
    assert (held["table_rows"].dtype, held["table_rows"].shape) == (np.int8, (WORDS, 96))
    assert held["table_scales"].shape == (WORDS, 1)
    restored = held["table_rows"] * held["table_scales"]
    assert np.abs(restored - weights(source)["table"]).max() <= held["table_scales"].max() / 2 + 1e-6
    assert applied.facts["relative_error"] < 0.02
    assert applied.model.ByteSize() < 0.29 * source.ByteSize()
    assert [(layer["name"], layer["bits"]) for layer in applied.facts["layers"]] == [("lookup", 8), ("head", 8)]


def test_a_row_of_zeros_in_a_table_stays_zero() -> None:
    made = apply(text_network(), QuantizeWeights(embeddings=True)).model
    assert (answers(made, "ids", np.full((1, 5), 7)) == 0).all()


def test_tables_stay_floats_unless_asked_for() -> None:
    applied = apply(text_network())
    assert "table" in weights(applied.model)
    assert [layer["name"] for layer in applied.facts["layers"]] == ["head"]


def test_a_transposed_matrix_gives_the_same_answers() -> None:
    found, wanted = (answers(model, "ids", words()) for model in (apply(text_network()).model, text_network()))
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def test_a_gemm_with_factors_is_not_taken_for_a_matrix() -> None:
    model = digits_network()
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", 0.5))
    with pytest.raises(InvalidInput, match="its largest is dense1 with 4096"):
        apply(model)


def test_named_layers_stay_as_they_are() -> None:
    applied = apply(three_matrices(1.0), QuantizeWeights(exclude=["second"]))
    assert {"b"} == {"a", "b", "c"} & set(weights(applied.model))
    assert [layer["excluded"] for layer in applied.facts["layers"]] == [False, True, False]


def test_the_layer_that_does_the_damage_is_found_and_left_alone() -> None:
    rows = np.random.default_rng(2).normal(size=(128, 64)).astype(np.float32)
    calibration = Calibration({"x": rows}, 1)
    source = three_matrices(30.0)
    harmed = apply(source, QuantizeWeights(bits=8), calibration).facts
    facts = apply(source, QuantizeWeights(bits=8, exclude="measured"), calibration).facts
    assert facts["layers"][2]["excluded"]
    assert not facts["layers"][0]["excluded"]
    assert facts["layers"][2]["damage"] > 2 * max(facts["layers"][0]["damage"], facts["layers"][1]["damage"])
    assert facts["disagreement"] < harmed["disagreement"]


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'dense7'") as refused:
        apply(conv_network(), QuantizeWeights(exclude=["dense7"]))
    assert refused.value.code == "recipe_parameters"


def test_measured_exclusions_need_calibration_data() -> None:
    with pytest.raises(InvalidInput, match="quantize_weights learns from inputs"):
        apply(conv_network(), QuantizeWeights(exclude="measured"))


def test_a_model_of_small_matrices_is_refused_with_the_largest() -> None:
    model = as_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="only")],
        {"w": np.eye(63, dtype=np.float32)},
        inputs={"x": ["rows", 63]},
        outputs={"y": ["rows", 63]},
    )
    with pytest.raises(InvalidInput, match=r"4096 elements or more.*its largest is only with 3969") as refused:
        apply(model)
    assert refused.value.code == "recipe_inapplicable"


def test_a_model_without_matrices_is_refused() -> None:
    model = as_model(
        [helper.make_node("Relu", ["x"], ["y"])], {}, inputs={"x": ["rows", 8]}, outputs={"y": ["rows", 8]}
    )
    with pytest.raises(InvalidInput, match="it has none at all"):
        apply(model)


def test_a_quantized_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"com\.microsoft\.MatMulNBits: it is quantized already"):
        apply(apply(digits_network()).model)


def test_logging_is_left_as_it_was(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), root.manager.disable)
    apply(conv_network())
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert (root.level, list(root.handlers), root.manager.disable) == before
