"""Making graphs ready for cutting without changing what they answer."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from controller.artifacts.graph.chains import find_chains
from controller.artifacts.graph.private_constants import (
    free_reshapes,
    give_biases,
    join_vectors,
    lift_constants,
    part_vectors,
)
from controller.artifacts.graph.sessions import Session
from tests.support import chain_networks as networks


def answers(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model)
    return Session(model.SerializeToString()).run_rows(networks.inputs_for(model), networks.ROWS)["y"]


@pytest.mark.parametrize("make", networks.PRUNABLE.values(), ids=networks.PRUNABLE)
def test_a_graph_made_ready_answers_as_before(make: Callable[[], onnx.ModelProto]) -> None:
    model, wanted = make(), answers(make())
    lift_constants(model)
    copies = part_vectors(model)
    chains, _ = find_chains(model)
    biases = give_biases(model, chains)
    free_reshapes(model, chains)
    np.testing.assert_allclose(answers(model), wanted, atol=1e-5)
    join_vectors(model, copies)
    np.testing.assert_allclose(answers(model), wanted, atol=1e-5)
    outputs = wanted.shape[1 if networks.values_of(model, "w2").ndim > 2 else -1]
    assert networks.values_of(model, biases["w2"]).shape[-1] == outputs


def test_a_vector_with_two_meanings_is_parted_and_joined_again() -> None:
    model, before = networks.dense_normalised(), networks.dense_normalised()
    copies = part_vectors(model)
    assert len(set(model.graph.node[1].input)) == 5
    assert sorted(copies.values()) == ["ones", "ones", "zeros", "zeros"]
    join_vectors(model, copies)
    assert model == before


def test_a_copy_that_was_changed_stays_apart() -> None:
    model = networks.dense_normalised()
    copies = part_vectors(model)
    mean = model.graph.node[1].input[3]
    networks.rewrite(model, mean, lambda values: values + 1)
    join_vectors(model, copies)
    assert list(model.graph.node[1].input[1:]) == ["ones", "zeros", mean, "ones"]


def test_a_bias_that_another_node_reads_is_copied_before_it_is_changed() -> None:
    model = networks.sequence_gelu()
    networks.rewrite(model, "b2", lambda values: np.tile(values, (5, 1)))
    model.graph.node.append(onnx.helper.make_node("Add", ["x", "b2"], ["seen"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("seen", onnx.TensorProto.FLOAT, ["rows", 5, 6]))
    biases = give_biases(model, find_chains(model)[0])
    onnx.checker.check_model(model)
    assert biases["w2"] != "b2"
    assert model.graph.node[-1].input[1] == "b2"


def test_factors_of_a_gemm_are_folded_into_its_numbers() -> None:
    model = networks.conv_mean_dense()
    weight, bias = networks.values_of(model, "w2"), networks.values_of(model, "b2")
    give_biases(model, find_chains(model)[0])
    np.testing.assert_allclose(networks.values_of(model, "w2"), 0.5 * weight)
    np.testing.assert_allclose(networks.values_of(model, "b2"), 2 * bias)
    assert {found.name for found in model.graph.node[-1].attribute} == {"transB"}


def test_initializers_that_old_files_list_among_the_inputs_are_inputs_no_more() -> None:
    model = networks.dense_relu()
    model.ir_version = 3
    model.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    )
    lift_constants(model)
    assert [value.name for value in model.graph.input] == ["x"]
    assert model.ir_version == 4
