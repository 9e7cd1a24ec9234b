"""Which layers are prunable, and the reasons of those that are not."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from controller.artifacts.graph.chains import find_chains
from controller.artifacts.graph.private_constants import lift_constants, part_vectors
from tests.support import chain_networks as networks


def reasons(model: onnx.ModelProto) -> dict[str, str]:
    return {refused.name: refused.reason for refused in find_chains(model)[1]}


@pytest.mark.parametrize("make", networks.PRUNABLE.values(), ids=networks.PRUNABLE)
def test_a_layer_whose_channels_reach_one_other_layer_is_a_chain(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    lift_constants(model)
    part_vectors(model)
    (chain,), refused = find_chains(model)
    assert (chain.producer, chain.consumer, chain.channels) == ("first", "second", networks.CHANNELS)
    assert (chain.producer_weight, chain.weight) == ("w1", "w2")
    assert [found.name for found in refused] == ["second"]


def test_a_flattened_map_gives_every_channel_as_many_inputs_as_it_has_places() -> None:
    (chain,), _ = find_chains(networks.conv_flatten_dense())
    assert chain.repeat == 9
    assert {found.name: found.flat for found in chain.slices} == {"w1": False, "b1": False, "v": True}


def test_a_vector_is_cut_where_it_meets_the_channels() -> None:
    (chain,), _ = find_chains(networks.conv_normalised_conv())
    assert {found.name: found.axis for found in chain.slices} == {
        "w1": -4,
        "b1": -3,
        **{f"n{number}": -1 for number in range(4)},
    }


def test_the_last_layer_is_an_output_of_the_model() -> None:
    assert reasons(networks.dense_relu()) == {"second": "its output 'y' is an output of the model"}


def test_a_residual_add_is_refused_with_the_name_of_the_node() -> None:
    found = reasons(networks.residual())
    assert found["first"] == "its output also goes to the residual Add 'around'"
    assert found["second"] == "its output goes to the residual Add 'around'"


def test_a_chain_within_a_residual_block_is_prunable() -> None:
    assert reasons(networks.sequence_gelu()) == {"second": "its output goes to the residual Add 'around'"}


def test_a_depthwise_convolution_is_refused_for_itself_and_for_what_feeds_it() -> None:
    found = reasons(networks.depthwise())
    assert found["first"] == "its output goes to the grouped convolution 'depthwise' (group 16)"
    assert found["depthwise"] == "it is a grouped convolution (group 16), whose channels belong to groups"


def test_a_layer_that_feeds_two_others_is_refused_with_their_names() -> None:
    assert reasons(networks.branching())["first"] == "its output feeds several layers: 'left', 'right'"


def test_a_shared_weight_is_refused() -> None:
    found = reasons(networks.tied())
    assert found["first"] == "its output goes to the Gemm 'second', whose weight 'w2' is shared with another node"
    assert found["second"] == "its weight 'w2' is shared with another node"


def test_a_node_that_mixes_channels_is_refused() -> None:
    found = reasons(networks.softmax_between())
    assert found["first"] == "its output goes to the Softmax 'attention', which does not keep channels apart"


def test_a_gate_that_another_layer_gives_is_refused() -> None:
    model = networks.dense_relu()
    model.graph.node[1].CopyFrom(helper.make_node("Mul", ["h", "gate"], ["a"], name="gated"))
    model.graph.input.append(helper.make_tensor_value_info("gate", TensorProto.FLOAT, ["rows", networks.CHANNELS]))
    assert reasons(model)["first"] == "its output goes to the Mul 'gated', where it meets another layer's output"


def test_a_hidden_output_of_the_model_is_refused() -> None:
    model = networks.dense_relu()
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows", networks.CHANNELS]))
    assert reasons(model)["first"] == "its output 'a' is an output of the model"


def test_a_normalisation_along_the_steps_of_a_sequence_is_refused() -> None:
    model = networks.sequence_mean()
    model.graph.node[1].CopyFrom(
        helper.make_node("BatchNormalization", ["h", "v", "v", "v", "v"], ["t"], name="by_step")
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(5, np.float32), "v"))
    told = "its output goes to the BatchNormalization 'by_step', which normalises along another axis"
    assert reasons(model)["first"] == told


def test_a_mean_over_the_channels_is_refused() -> None:
    model = networks.sequence_mean()
    model.graph.node[2].CopyFrom(helper.make_node("ReduceMean", ["t"], ["a"], name="mean", axes=[-1], keepdims=0))
    assert reasons(model)["first"] == "its output goes to the ReduceMean 'mean', which takes channels together"


def test_a_reshape_that_splits_rows_is_refused() -> None:
    found = reasons(networks.conv_reshape_dense((-1, networks.CHANNELS * 18)))
    assert found["first"] == "its output goes to the Reshape 'reshape', whose order of channels is not known to be kept"


def test_a_weight_that_the_branch_of_an_if_reads_too_is_refused() -> None:
    model = networks.dense_relu()
    branch = helper.make_graph(
        [helper.make_node("ReduceSum", ["w1"], ["sum"], keepdims=0)],
        "branch",
        [],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [])],
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch))
    assert reasons(model)["first"] == "its weight 'w1' is shared with another node"


def test_a_half_precision_weight_is_refused_with_what_to_do() -> None:
    model = networks.dense_relu()
    networks.rewrite(model, "w1", lambda values: values.astype(np.float16))
    assert reasons(model)["first"] == "its weight 'w1' is not FP32; prune before quantizing"


def test_a_bias_that_callers_give_is_refused() -> None:
    model = networks.dense_relu()
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "b1"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.append(helper.make_tensor_value_info("b1", TensorProto.FLOAT, [networks.CHANNELS]))
    assert reasons(model)["first"] == "its bias 'b1' is not constant"


def test_a_stack_of_matrices_is_refused_with_its_shape() -> None:
    model = networks.sequence_mean()
    networks.rewrite(model, "w1", lambda values: values[None])
    assert reasons(model)["first"] == f"its weight 'w1' is a stack of matrices [1, 6, {networks.CHANNELS}]"


def test_a_layer_that_reads_the_channels_as_rows_is_refused() -> None:
    model = networks.dense_relu()
    model.graph.node[2].attribute.append(helper.make_attribute("transA", 1))
    assert reasons(model)["first"] == "its output goes to the Gemm 'second', which adds up along another axis"


def test_an_output_that_the_branch_of_an_if_reads_is_refused() -> None:
    model = networks.dense_relu()
    inner = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [])
    branch = helper.make_graph([helper.make_node("ReduceSum", ["a"], ["sum"], keepdims=0)], "branch", [], [inner])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=branch))
    assert reasons(model)["first"] == "its output 'a' is read by a graph inside another node"


def test_a_layer_of_another_width_behind_the_channels_is_refused_with_both_widths() -> None:
    model = networks.dense_relu()
    networks.rewrite(model, "w2", lambda values: np.concatenate([values, values]))
    assert reasons(model)["first"] == "its 16 channels do not make up the 32 inputs of 'second'"


@pytest.mark.parametrize(
    ("names", "length", "told"),
    [
        (("v", "w"), networks.CHANNELS // 2, "the constant 'v' behind it does not have one number a channel"),
        (("v", "v"), networks.CHANNELS, "the constant 'v' behind it is shared with another node"),
    ],
    ids=["half as long", "read twice"],
)
def test_a_vector_that_cannot_be_cut_with_the_channels_is_refused(
    names: tuple[str, str], length: int, told: str
) -> None:
    model = networks.dense_relu()
    arithmetic = [helper.make_node("Mul", ["h", names[0]], ["m"]), helper.make_node("Sub", ["m", names[1]], ["a"])]
    first, _, second = list(model.graph.node)
    networks.replace_nodes(model, [first, *arithmetic, second])
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.ones(length, np.float32), name) for name in sorted(set(names))
    )
    assert reasons(model)["first"] == told


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (
            [
                helper.make_node("Flatten", ["h"], ["f"]),
                helper.make_node("ReduceMean", ["h"], ["m"], axes=[2, 3], keepdims=0),
                helper.make_node("Add", ["f", "m"], ["a"], name="both"),
            ],
            "goes to the Add 'both', where its channels meet in different order",
        ),
        (
            [helper.make_node("BatchNormalization", ["h", "x", "x", "x", "x"], ["a"], name="norm")],
            "goes to the BatchNormalization 'norm', whose figures are not constant",
        ),
        (
            [helper.make_node("MaxPool", ["h"], ["a", "places"], name="pool", kernel_shape=[2, 2])],
            "goes to the MaxPool 'pool', which pools over channels or tells indices",
        ),
    ],
    ids=["different order", "figures that are not constant", "indices"],
)
def test_what_does_not_treat_every_channel_for_itself_is_refused_by_name(
    nodes: list[onnx.NodeProto], told: str
) -> None:
    model = networks.conv_mean_dense()
    first, *_, second = list(model.graph.node)
    networks.replace_nodes(model, [first, *nodes, second])
    assert reasons(model)["first"] == f"its output {told}"


def test_a_mean_over_what_has_no_known_shape_is_refused() -> None:
    model = networks.sequence_mean()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.node[2].name = "mean"
    told = "its output goes to the ReduceMean 'mean', before which the shape is not known"
    assert reasons(model)["first"] == told
