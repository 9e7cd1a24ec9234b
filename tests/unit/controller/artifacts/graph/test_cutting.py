"""Cutting chains step by step."""

import numpy as np
import pytest

from controller.artifacts.graph.cutting import ROWS_MIN, Cut, Ready, Recovery, cut, fitting, flow_into, ranked, ready
from controller.artifacts.graph.recovery import Kind
from controller.artifacts.steps.interface import Calibration
from tests.support import chain_networks as networks
from tests.support.networks import digits_calibration, digits_network

FIRST, SECOND = "w1", "w2"


@pytest.fixture
def prepared() -> Ready:
    return ready(digits_network(), channels_min=16, with_biases=True)


def recovery(kind: Kind = "least_squares") -> Recovery:
    return Recovery(kind, 1e-3, digits_calibration(300))


def test_a_chain_cut_twice_is_the_chain_cut_at_once(prepared: Ready) -> None:
    chain = prepared.chains[0]
    whole = Cut(prepared.model, {})
    halfway = cut(prepared, whole, chain, range(40), recovery())
    twice = cut(prepared, halfway, chain, range(10, 30), recovery())
    at_once = cut(prepared, whole, chain, range(10, 30), recovery())
    assert twice.kept[FIRST].tolist() == list(range(10, 30))
    for name in ("w1", "b1", "w2", "b2"):
        got, wanted = (networks.values_of(found.model, name) for found in (twice, at_once))
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_layer_that_lost_outputs_is_refitted_for_those_that_are_left(prepared: Ready) -> None:
    first, second = prepared.chains
    outputs = [1, 5, 8, 20]
    narrow = cut(prepared, Cut(prepared.model, {}), second, outputs, recovery())
    got = cut(prepared, narrow, first, range(32), recovery())
    alone = cut(prepared, Cut(prepared.model, {}), first, range(32), recovery())
    assert networks.values_of(got.model, SECOND).shape == (32, 4)
    np.testing.assert_allclose(
        networks.values_of(got.model, SECOND), networks.values_of(alone.model, SECOND)[:, outputs], atol=1e-5
    )
    np.testing.assert_allclose(
        networks.values_of(got.model, "b2"), networks.values_of(alone.model, "b2")[outputs], atol=1e-5
    )


def test_a_cut_leaves_the_graph_that_it_starts_from(prepared: Ready) -> None:
    before = prepared.model.SerializeToString()
    cut(prepared, Cut(prepared.model, {}), prepared.chains[0], range(8), recovery())
    assert prepared.model.SerializeToString() == before


def test_a_channel_that_never_changes_ranks_last_though_its_weights_are_large() -> None:
    model = digits_network()
    networks.rewrite(model, "b1", lambda values: np.where(np.arange(64) == 7, np.float32(-1e3), values))
    networks.rewrite(model, "w1", lambda values: np.where(np.arange(64) == 7, 9 * values, values))
    prepared = ready(model, channels_min=16, with_biases=False)
    # Among the last, because a few others never change either.
    assert 7 in ranked(prepared, prepared.chains[0], digits_calibration(100))[-8:]
    assert ranked(prepared, prepared.chains[0], None)[0] == 7


def test_what_flows_is_one_row_a_place_with_channels_last() -> None:
    model = networks.conv_along_time()
    prepared = ready(model, channels_min=2, with_biases=False)
    flow = flow_into(prepared.model, prepared.chains[0], Calibration(networks.inputs_for(model, rows=3), 1))
    assert flow.shape == (3 * 7, networks.CHANNELS)
    # Instance normalisation: over the seven places of each row, every channel has the mean that its vector says.
    means = flow.reshape(3, 7, networks.CHANNELS).mean(axis=1)
    np.testing.assert_allclose(means, np.tile(networks.values_of(model, "n1"), (3, 1)), atol=1e-5)


def test_fewer_rows_do_where_each_has_many_places(prepared: Ready) -> None:
    maps = networks.conv_normalised_conv()
    of_maps = ready(maps, channels_min=2, with_biases=False)
    rows = Calibration(networks.inputs_for(maps, rows=1500), 1)
    # The consumer reads 3 x 3 places of each row; 4096 of them are looked at, out of twice as many.
    assert len(fitting(of_maps, of_maps.chains[0], rows)) == 8192 // 9 > ROWS_MIN
    assert len(fitting(prepared, prepared.chains[0], digits_calibration(1000))) == 1000
