import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.cluster import KMeans

from controller.artifacts.graph.clustering import cluster, nearest
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.probing import answers
from controller.artifacts.graph.running import damage, run_model
from controller.artifacts.graph.weights import weights_of
from controller.artifacts.steps import palette
from controller.artifacts.steps.interface import tell_nobody
from controller.artifacts.steps.parameters import Palette
from controller.domain.errors import InvalidInput
from tests.support.networks import as_model, conv_calibration, conv_network, digits_calibration, digits_network


def error(values: np.ndarray, centres: np.ndarray) -> float:
    return float(((values - centres[nearest(values, centres)]) ** 2).sum())


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


@pytest.mark.parametrize("entries", [2, 16, 64])
def test_centres_are_as_good_as_those_of_a_general_k_means(entries: int) -> None:
    values = np.random.default_rng(0).laplace(size=3000)
    reference = KMeans(entries, n_init=3, random_state=0).fit(values[:, None]).inertia_
    centres = cluster(values, entries)
    assert len(centres) <= entries
    assert error(values, centres) < 1.05 * reference


def test_numbers_of_few_values_are_their_own_centres() -> None:
    values = np.float32([[3, -1, 3], [0.5, -1, 0.5]])
    np.testing.assert_array_equal(cluster(values, 3), [-1, 0.5, 3])


def test_far_outliers_get_centres_of_their_own() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=500), [100.0, -250.0]])
    centres = cluster(values, 8)
    assert {centres[0], centres[-1]} == {-250.0, 100.0}


def test_sixteen_values_take_half_a_byte_a_weight_and_the_digits_are_still_read() -> None:
    source, calibration = digits_network(), digits_calibration(200)
    applied = palette.apply(source, Palette(entries=16), calibration, tell_nobody)
    onnx.checker.check_model(applied.model, full_check=True)
    assert applied.facts["index_bits"] == 4
    index = initializer(applied.model, "w1_index")
    assert (index.data_type, len(index.raw_data)) == (TensorProto.UINT4, 64 * 64 // 2)
    assert applied.model.ByteSize() < source.ByteSize() / 4
    assert damage(run_model(source, calibration), run_model(applied.model, calibration)).disagreement < 0.03


def test_the_lookup_gives_exactly_the_values_of_the_table_with_and_without_the_runtimes_optimisation() -> None:
    source, calibration = digits_network(), digits_calibration(20)
    applied = palette.apply(source, Palette(entries=16), calibration, tell_nobody)
    shared = digits_network()
    for weight in weights_of(shared, elements_min=palette.ELEMENTS_MIN):
        table = numpy_helper.to_array(initializer(applied.model, f"{weight.name}_table"))
        weight.set_values(table[nearest(weight.values, table.astype(np.float64))])
    for optimised in (False, True):
        expected = answers(shared, calibration.inputs, optimised=optimised)["scores"]
        got = answers(applied.model, calibration.inputs, optimised=optimised)["scores"]
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_more_than_sixteen_values_take_a_byte_a_weight_and_the_opset_stays() -> None:
    source = conv_network()
    applied = palette.apply(source, Palette(entries=64), conv_calibration(50), tell_nobody)
    assert applied.facts["index_bits"] == 8
    assert "do not fit half a byte" in applied.facts["index"]
    assert initializer(applied.model, "w3_index").data_type == TensorProto.UINT8
    assert list(applied.model.opset_import) == list(source.opset_import)
    errors = {layer["name"]: layer["relative_error"] for layer in applied.facts["layers"]}
    assert errors.keys() == {"k2", "w3"}
    assert all(0 < found < 0.06 for found in errors.values())


def test_an_opset_that_cannot_be_raised_keeps_whole_bytes_and_the_facts_say_why() -> None:
    # The converter loses functions that a model brings along.
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    source = as_model(
        [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Relu", ["product"], ["y"])],
        {"w": np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)},
        inputs={"x": ["rows", 32]},
        outputs={"y": ["rows", 32]},
    )
    twice = helper.make_node("Add", ["a", "a"], ["b"])
    source.functions.append(helper.make_function("local", "twice", ["a"], ["b"], [twice], opsets[:1]))
    source.graph.node[1].op_type, source.graph.node[1].domain = "twice", "local"
    source.opset_import.append(opsets[1])
    applied = palette.apply(source, Palette(entries=8), None, tell_nobody)
    assert applied.facts["index_bits"] == 8
    assert applied.facts["index"].startswith("with half bytes the graph cannot be used")
    assert list(applied.model.opset_import) == opsets


def test_pruned_weights_stay_exactly_zero() -> None:
    source = digits_network()
    weight = weights_of(source)[0]
    values = weight.values
    values[np.abs(values) < np.quantile(np.abs(values), 0.6)] = 0
    weight.set_values(values)
    applied = palette.apply(source, Palette(entries=32), None, tell_nobody)
    table = numpy_helper.to_array(initializer(applied.model, "w1_table"))
    index = numpy_helper.to_array(initializer(applied.model, "w1_index"))
    np.testing.assert_array_equal(table[index] == 0, values == 0)


def test_small_layers_are_left_alone_and_the_signature_stays() -> None:
    source = digits_network()
    applied = palette.apply(source, Palette(entries=4), None, tell_nobody)
    assert [layer["name"] for layer in applied.facts["layers"]] == ["w1", "w2"]
    assert initializer(applied.model, "w3").data_type == TensorProto.FLOAT
    before, after = describe(source), describe(applied.model)
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)


def test_a_model_of_small_layers_is_refused() -> None:
    small = as_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.ones((31, 33), np.float32)},
        inputs={"x": ["rows", 31]},
        outputs={"y": ["rows", 33]},
    )
    with pytest.raises(InvalidInput, match="this model has no such layer") as refused:
        palette.apply(small, Palette(), None, tell_nobody)
    assert refused.value.code == "recipe_inapplicable"


def test_the_same_graph_gives_the_same_bytes_and_stays_as_it_is() -> None:
    source = digits_network()
    before = source.SerializeToString()
    first, second = (palette.apply(source, Palette(), None, tell_nobody).model for _ in range(2))
    assert first.SerializeToString() == second.SerializeToString()
    assert source.SerializeToString() == before
