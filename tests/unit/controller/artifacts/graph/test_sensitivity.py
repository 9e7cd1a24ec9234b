"""Sharing a cut out among layers by what it harms."""

import numpy as np
import pytest

from controller.artifacts.graph.sensitivity import Gauge, cheapest_first, share_out, split, spread
from controller.artifacts.steps.interface import Calibration
from tests.support import chain_networks as networks

LEVELS = (0.5, 0.75, 1.0)


def test_the_layer_that_suffers_less_loses_more_and_the_whole_share_is_kept() -> None:
    sizes = {"tough": 100, "frail": 100}
    shares = share_out(sizes, LEVELS, {"tough": [0.0, 0.1, 0.2], "frail": [0.5, 0.8, 1.0]}, 0.5)
    assert shares == pytest.approx({"tough": 1.0, "frail": 0.0})


def test_a_layer_is_raised_only_as_far_as_needed() -> None:
    shares = share_out({"a": 100, "b": 300}, LEVELS, {"a": [0.0, 0.9, 1.0], "b": [0.1, 0.2, 0.3]}, 0.25)
    assert shares == pytest.approx({"a": 0.5, "b": 50 / 300})


def test_harm_counts_for_each_weight_that_goes() -> None:
    shares = share_out({"small": 10, "large": 1000}, LEVELS, {"small": [0.01] * 3, "large": [0.02] * 3}, 0.4)
    assert shares["small"] == 0
    assert shares["large"] == pytest.approx(404 / 1000)


def test_the_cheapest_cut_is_taken_again_and_again_until_enough_is_gone() -> None:
    prices = {"a": [1.0, 4.0], "b": [2.0, 3.0], "c": [9.0]}
    taken: list[str] = []

    def price(name: str) -> float | None:
        done = taken.count(name)
        return prices[name][done] if done < len(prices[name]) else None

    def take(name: str) -> bool:
        taken.append(name)
        return len(taken) < 4

    cheapest_first(list(prices), price, take)
    assert taken == ["a", "b", "b", "a"]


def test_a_cut_that_became_dearer_is_put_back() -> None:
    taken: list[str] = []

    def price(name: str) -> float | None:
        if name in taken:
            return None
        return {"a": 1.0, "b": 2.0 if not taken else 8.0, "c": 3.0}[name]

    def take(name: str) -> bool:
        taken.append(name)
        return True

    cheapest_first(["a", "b", "c"], price, take)
    assert taken == ["a", "c", "b"]


def rows(count: int, run: int = 1) -> Calibration:
    return Calibration({"x": np.arange(count)}, run)


def test_few_rows_are_taken_evenly_from_all() -> None:
    assert spread(rows(100), 5).inputs["x"].tolist() == [0, 25, 50, 74, 99]
    assert spread(rows(3), 5).inputs["x"].tolist() == [0, 1, 2]


def test_runs_stay_whole() -> None:
    assert spread(rows(12, 4), 5).inputs["x"].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


def test_rows_to_judge_by_are_not_among_those_to_learn_from() -> None:
    learned, judged = split(rows(100))
    assert (len(learned), len(judged)) == (75, 25)
    assert not set(learned.inputs["x"]) & set(judged.inputs["x"])


def test_few_rows_serve_for_both() -> None:
    learned, judged = split(rows(10))
    assert len(learned) == len(judged) == 10


def test_a_gauge_finds_no_damage_in_the_graph_given_and_some_in_another() -> None:
    model, other = networks.dense_relu(), networks.dense_relu()
    networks.rewrite(other, "w2", lambda values: values[:, ::-1])
    gauge = Gauge(model, Calibration(networks.inputs_for(model), 1))
    assert gauge.damage_of(model).worst == 0
    assert gauge.damage_of(other).disagreement > 0.2
