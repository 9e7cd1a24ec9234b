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
