"""Setting the smallest weights to zero."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.artifacts.graph.weights import weights_of
from controller.artifacts.steps.interface import Applied, tell_nobody
from controller.artifacts.steps.parameters import PruneMagnitude
from controller.artifacts.steps.prune_magnitude import apply, smallest
from controller.domain.errors import InvalidInput
from tests.support import chain_networks as networks
from tests.support.networks import conv_network, digits_calibration, digits_network

ALLOCATIONS = ("layer", "model", "sensitivity")


def prune(model: onnx.ModelProto, allocation: str = "layer", sparsity: float = 0.5) -> Applied:
    parameters = PruneMagnitude(sparsity=sparsity, allocation=allocation)
    return apply(model, parameters, digits_calibration(300), tell_nobody)


def zeros_in(model: onnx.ModelProto) -> float:
    values = np.concatenate([weight.values.reshape(-1) for weight in weights_of(model)])
    return float((values == 0).mean())


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9, 0.97])
def test_as_many_weights_become_zero_as_asked(allocation: str, sparsity: float) -> None:
    made = prune(digits_network(), allocation, sparsity)
    assert zeros_in(made.model) == pytest.approx(sparsity, abs=1 / 6464)
    assert made.facts["sparsity"] == pytest.approx(sparsity, abs=1e-4)
    assert sum(layer["sparsity"] * layer["weights"] for layer in made.facts["layers"]) == pytest.approx(
        made.facts["sparsity"] * made.facts["weights"], abs=0.1
    )


def test_the_smallest_weights_of_each_layer_go_and_the_others_stay() -> None:
    model = digits_network()
    made = prune(model)
    for before, after in zip(weights_of(model), weights_of(made.model), strict=True):
        gone = after.values == 0
        assert gone.mean() == pytest.approx(0.5, abs=1 / gone.size)
        assert np.abs(before.values[gone]).max() <= np.abs(before.values[~gone]).min()
        np.testing.assert_array_equal(after.values[~gone], before.values[~gone])


def test_one_threshold_does_not_depend_on_how_a_layer_is_scaled() -> None:
    model, scaled = digits_network(), digits_network()
    networks.rewrite(scaled, "w1", lambda values: 64 * values)
    kept = [weights_of(prune(given, "model").model)[0].values != 0 for given in (model, scaled)]
    np.testing.assert_array_equal(kept[0], kept[1])
    shares = [layer["sparsity"] for layer in prune(model, "model").facts["layers"]]
    assert max(shares) - min(shares) > 0.02


def test_sensitivity_spares_the_layer_that_suffers_and_harms_less() -> None:
    made = {allocation: prune(digits_network(), allocation, 0.7).facts for allocation in ("layer", "sensitivity")}
    shares = {layer["name"]: layer["sparsity"] for layer in made["sensitivity"]["layers"]}
    assert shares["dense3"] < 0.7 < shares["dense1"]
    assert made["sensitivity"]["damage"]["disagreement"] < made["layer"]["damage"]["disagreement"]


def test_kernels_are_pruned_and_biases_are_not() -> None:
    model = conv_network()
    made = apply(model, PruneMagnitude(sparsity=0.5), None, tell_nobody)
    assert [layer["name"] for layer in made.facts["layers"]] == ["conv1", "conv2", "head"]
    assert made.facts["damage"] is None
    for name in ("kb2", "b3", "scale", "variance"):
        np.testing.assert_array_equal(networks.values_of(made.model, name), networks.values_of(model, name))


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_same_is_made_twice_and_the_model_given_stays(allocation: str) -> None:
    model = digits_network()
    given = model.SerializeToString()
    made = [prune(model, allocation) for _ in range(2)]
    assert made[0].model.SerializeToString() == made[1].model.SerializeToString()
    assert json.loads(json.dumps(made[0].facts)) == made[1].facts
    assert model.SerializeToString() == given


def test_progress_names_the_layer_and_what_it_suffered() -> None:
    told: list[tuple[float, str]] = []
    parameters = PruneMagnitude(sparsity=0.5, allocation="sensitivity")
    apply(digits_network(), parameters, digits_calibration(100), lambda share, words: told.append((share, words)))
    assert [words.split(":")[0] for _, words in told] == ["dense1", "dense2", "dense3", "3232 weights are zero"]
    assert told[0][1].startswith("dense1: alone at 95% zeros, damage 0.")
    assert [share for share, _ in told] == sorted(share for share, _ in told)


def test_a_network_that_is_as_sparse_already_is_refused() -> None:
    sparse = prune(digits_network()).model
    with pytest.raises(InvalidInput, match="3232 of the weights are zero already") as caught:
        prune(sparse, sparsity=0.4)
    assert caught.value.code == "recipe_inapplicable"


def test_a_network_without_weights_is_refused() -> None:
    model = networks.dense_relu()
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.append(onnx.helper.make_node("Relu", ["x"], ["y"]))
    with pytest.raises(InvalidInput, match="the model has none; prune before quantizing"):
        prune(model)


def test_sensitivity_without_calibration_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        apply(digits_network(), PruneMagnitude(sparsity=0.5, allocation="sensitivity"), None, tell_nobody)
    assert caught.value.code == "calibration_missing"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_exactly_as_many_are_chosen_as_asked_and_none_is_larger_than_one_left(
    scores: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, len(scores)))
    numbers = np.array(scores, float)
    chosen = smallest(numbers, count)
    assert chosen.sum() == count
    assert numbers[chosen].max(initial=0) <= numbers[~chosen].min(initial=5)
