"""Which layers quantization leaves alone."""

import numpy as np
import onnx
import pytest
from onnx import helper

from controller.artifacts.graph.exclusions import (
    TRIALS_MAX,
    Trial,
    choose_exclusions,
    layers_of,
    measured,
    name_nodes,
    named,
)
from controller.artifacts.graph.weights import copy_of, weights_of
from controller.artifacts.steps.interface import Calibration, tell_nobody
from controller.domain.errors import InvalidInput
from tests.support.networks import as_model, conv_network, digits_network, fragile_calibration, fragile_network


def chain(layers: int) -> onnx.ModelProto:
    """Matrices one after another, each the identity."""
    nodes = [
        helper.make_node("MatMul", [f"h{number}", f"w{number}"], [f"h{number + 1}"], name=f"layer{number}")
        for number in range(layers)
    ]
    weights = {f"w{number}": np.eye(3, dtype=np.float32) for number in range(layers)}
    return as_model(nodes, weights, inputs={"h0": ["rows", 3]}, outputs={f"h{layers}": ["rows", 3]})


def scaled(model: onnx.ModelProto, factors: dict[str, float], left_alone: frozenset[str]) -> onnx.ModelProto:
    """Stand in for a quantizer: changes a layer's weights by a known factor."""
    changed = copy_of(model)
    for weight in weights_of(changed):
        if weight.node.name not in left_alone:
            weight.set_values(weight.values * factors.get(weight.node.name, 1.0))
    return changed


@pytest.mark.parametrize(
    ("alone", "rest", "chosen"),
    [
        pytest.param({"a": 0.1, "b": 0.2}, {"": 0.004}, "", id="the whole is within the bound"),
        pytest.param({"a": 0.1, "b": 0.2}, {"": 0.3, "b": 0.001}, "b", id="the worst alone goes first and suffices"),
        pytest.param(
            {"a": 0.1, "b": 0.2, "c": 0.3}, {"": 0.6, "c": 0.3, "bc": 0.0}, "bc", id="one more until it is enough"
        ),
        pytest.param(
            {"a": 0.1, "b": 0.2, "c": 0.3}, {"": 0.6, "c": 0.58, "b": 0.001}, "b", id="one that gains little is kept"
        ),
        pytest.param(
            {"a": 0.1, "b": 0.2, "c": 0.3}, {"": 0.6, "c": 0.6, "b": 0.7, "a": 0.56}, "", id="none improves it"
        ),
        pytest.param({"a": 0.1, "b": 0.2}, {"": 0.3, "b": 0.2}, "b", id="one stays quantized whatever it costs"),
        pytest.param({"a": 0.9}, {"": 0.9}, "", id="an only layer stays quantized"),
        pytest.param({"a": 0.2, "b": 0.2}, {"": 0.3, "a": 0.0}, "a", id="of equals the first in the graph"),
    ],
)
def test_the_fewest_layers_are_left_alone_that_bring_the_damage_down(
    alone: dict[str, float], rest: dict[str, float], chosen: str
) -> None:
    """`rest` has the damage by the layers left alone; a combination that is not there must not be asked for."""
    assert choose_exclusions(alone, lambda left: rest["".join(sorted(left))]) == frozenset(chosen)


def test_every_layer_is_measured_and_the_harmful_one_left_alone() -> None:
    model = fragile_network()
    calibration = fragile_calibration()
    told: list[str] = []
    chosen = measured(
        layers_of(model, ["MatMul"]),
        lambda left: scaled(model, {"fragile": -1.0}, left),
        Trial(model, calibration),
        lambda _, words: told.append(words),
    )
    assert chosen.left_alone == {"fragile"}
    assert chosen.damages["sturdy"] == 0.0
    assert chosen.damages["fragile"] > 0.5
    assert told[-1] == "fragile left alone: damage 0.0000"


def test_a_graph_of_many_layers_is_tried_in_a_bounded_number_of_groups() -> None:
    model = chain(70)
    rows = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    shares: list[float] = []
    chosen = measured(
        layers_of(model, ["MatMul"]),
        lambda left: scaled(model, {"layer40": -1.0}, left),
        Trial(model, Calibration({"h0": rows}, 1)),
        lambda share, _: shares.append(share),
    )
    assert len(shares) <= TRIALS_MAX + 2
    assert shares == sorted(shares)
    assert "layer40" in chosen.left_alone
    assert len(chosen.left_alone) <= 3
    assert len(chosen.damages) == 70


def test_a_trial_of_outputs_without_classes_counts_the_relative_error() -> None:
    model = as_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="layer")],
        {"w": np.ones((4, 1), np.float32)},
        inputs={"x": ["a", "b", 4]},
        outputs={"y": ["a", "b", 1]},
    )
    rows = np.random.default_rng(2).normal(size=(8, 2, 4)).astype(np.float32)
    trial = Trial(model, Calibration({"x": rows}, 1))
    found = scaled(model, {"layer": 1.5}, frozenset())
    assert trial.severity(found) == pytest.approx(0.1 * trial.damage(found).relative_error)
    assert trial.severity(found) > 0.02


def test_nodes_without_a_name_or_with_one_that_is_taken_are_named_alike_every_time() -> None:
    given = chain(4)
    for node, name in zip(given.graph.node, ["", "twice", "twice", "MatMul_0"], strict=True):
        node.name = name
    for _ in range(2):
        model = copy_of(given)
        name_nodes(model)
        assert [node.name for node in model.graph.node] == ["MatMul_0_", "twice", "MatMul_2", "MatMul_0"]


def test_layers_are_nodes_of_the_operators_with_a_constant_matrix() -> None:
    found = layers_of(conv_network(), ["Conv", "Gemm", "Relu"])
    assert [(layer.name, layer.weights, layer.elements) for layer in found] == [
        ("conv1", ("k1",), 72),
        ("conv2", ("k2",), 1152),
        ("head", ("w3",), 10240),
    ]


def test_a_name_that_no_node_has_is_refused_with_the_nodes_there_are() -> None:
    model = digits_network()
    name_nodes(model)
    with pytest.raises(InvalidInput, match=r"'dense9'.*dense1, Relu_1, dense2") as refused:
        named(["dense1", "dense9"], model, model)
    assert (refused.value.code, refused.value.field) == ("recipe_parameters", "/recipes")


def test_a_refusal_shows_a_part_of_many_nodes_and_counts_the_rest() -> None:
    model = chain(70)
    with pytest.raises(InvalidInput, match="layer39 and 30 more"):
        named(["dense"], model, model)


def test_a_node_that_was_fused_under_another_name_is_found_by_its_matrix() -> None:
    source, prepared = chain(3), chain(3)
    prepared.graph.node[1].name = "fused"
    assert named(["layer1", "layer2"], prepared, source) == {"fused", "layer2"}


def test_no_layer_is_left_alone_where_none_does_harm() -> None:
    model = fragile_network()
    chosen = measured(
        layers_of(model, ["MatMul"]), lambda _: copy_of(model), Trial(model, fragile_calibration()), tell_nobody
    )
    assert chosen.left_alone == frozenset()
