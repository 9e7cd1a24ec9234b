import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts.graph.running import damage, run_model
from controller.artifacts.steps import optimize
from controller.artifacts.steps.interface import tell_nobody
from controller.artifacts.steps.parameters import Optimize
from tests.support.networks import as_model, conv_calibration, conv_network, digits_calibration, digits_network


def cluttered_network() -> onnx.ModelProto:
    """Return x + (1 + 2), with the sum computed by nodes, a node that nobody reads, and words that nobody reads."""
    model = as_model(
        [
            helper.make_node("Constant", [], ["one"], value_float=1.0),
            helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32([2.0]))),
            helper.make_node("Add", ["one", "two"], ["three"], doc_string="a sum of constants"),
            helper.make_node("Add", ["x", "three"], ["y"], name="shift"),
            helper.make_node("Relu", ["x"], ["unread"]),
        ],
        {},
        inputs={"x": ["rows", 4]},
        outputs={"y": ["rows", 4]},
    )
    model.graph.doc_string = "traced from somewhere"
    model.metadata_props.add(key="author", value="somebody")
    model.graph.value_info.append(helper.make_tensor_value_info("three", TensorProto.FLOAT, [1]))
    return model


def network_with_an_unused_input() -> onnx.ModelProto:
    model = cluttered_network()
    model.graph.input.append(helper.make_tensor_value_info("spare", TensorProto.FLOAT, ["rows", 1]))
    return model


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_batch_normalisation_goes_into_its_convolution_and_the_answers_stay() -> None:
    source, calibration = conv_network(), conv_calibration(100)
    applied = optimize.apply(source, Optimize(), calibration, tell_nobody)
    assert "BatchNormalization" in operators(source)
    assert "BatchNormalization" not in operators(applied.model)
    assert damage(run_model(source, calibration), run_model(applied.model, calibration)).relative_error < 1e-5
    assert applied.facts["fusion"] == "done"
    assert {"name": "BatchNormalization", "before": 1, "after": 0} in applied.facts["operators"]


def test_without_fusing_batch_normalisation_stays() -> None:
    applied = optimize.apply(conv_network(), Optimize(fuse=False), None, tell_nobody)
    assert "BatchNormalization" in operators(applied.model)
    assert applied.facts["fusion"] == "off"


def test_constants_are_folded_and_dead_code_and_words_are_dropped() -> None:
    applied = optimize.apply(cluttered_network(), Optimize(fuse=False), None, tell_nobody)
    (node,) = applied.model.graph.node
    assert (node.op_type, node.name) == ("Add", "shift")
    folded = next(tensor for tensor in applied.model.graph.initializer if tensor.name in node.input)
    np.testing.assert_array_equal(numpy_helper.to_array(folded), np.float32([3.0]))
    assert not applied.model.graph.value_info
    assert not applied.model.metadata_props
    assert not applied.model.graph.doc_string
    assert applied.facts["constants"] == 2
    assert applied.facts["bytes_after"] < applied.facts["bytes_before"]


def test_a_graph_whose_inputs_fusing_would_change_is_only_stripped_and_the_facts_say_so() -> None:
    source = network_with_an_unused_input()
    applied = optimize.apply(source, Optimize(), None, tell_nobody)
    assert [value.name for value in applied.model.graph.input] == ["x", "spare"]
    assert applied.facts["fusion"] == "left out: the fused graph has other inputs or outputs than the source"
    assert operators(applied.model) == ["Add", "Add", "Relu"]
    assert not applied.model.metadata_props
    onnx.checker.check_model(applied.model)


def test_a_graph_that_onnxslim_cannot_read_is_only_stripped_and_the_facts_say_so() -> None:
    nodes = [
        helper.make_node("Optional", ["x"], ["perhaps"], doc_string="a type that onnxslim does not know"),
        helper.make_node("OptionalGetElement", ["perhaps"], ["given"]),
        helper.make_node("Relu", ["given"], ["y"]),
    ]
    source = as_model(nodes, {}, inputs={"x": ["rows", 4]}, outputs={"y": ["rows", 4]})
    applied = optimize.apply(source, Optimize(), None, tell_nobody)
    assert applied.facts["fusion"].startswith("left out: onnxslim ")
    assert operators(applied.model) == ["Optional", "OptionalGetElement", "Relu"]
    assert not applied.model.graph.node[0].doc_string


def test_a_graph_that_cannot_be_run_is_only_stripped_and_the_facts_say_so() -> None:
    source = as_model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"shape": np.array([7, 1], np.int64)},
        inputs={"x": ["rows", 4]},
        outputs={"y": [7, 1]},
    )
    facts = optimize.apply(source, Optimize(), None, tell_nobody).facts
    assert facts["fusion"].startswith("left out: the fused graph cannot be compared with the source (the model fails")


def test_a_weight_that_is_an_input_as_well_becomes_a_constant() -> None:
    source = digits_network()
    source.graph.input.append(helper.make_tensor_value_info("w1", TensorProto.FLOAT, [64, 64]))
    applied = optimize.apply(source, Optimize(), digits_calibration(50), tell_nobody)
    assert [value.name for value in applied.model.graph.input] == ["image"]
    assert applied.facts["fusion"] == "done"


def test_the_same_graph_gives_the_same_bytes_and_stays_as_it_is() -> None:
    source = conv_network()
    before = source.SerializeToString()
    first, second = (optimize.apply(source, Optimize(), None, tell_nobody).model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert source.SerializeToString() == before
