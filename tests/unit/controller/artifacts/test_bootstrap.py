"""Paired bootstrap intervals against what statistics says about them."""

import numpy as np
import numpy.typing as npt
import pytest

from controller.artifacts.behaviour.bootstrap import RESAMPLES, paired_intervals


def mean(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return means[..., 0]


def column(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    return values.astype(np.float64).reshape(-1, 1)


def test_the_interval_of_a_share_is_that_of_the_normal_approximation() -> None:
    right = np.arange(1000) < 800
    found = paired_intervals(column(right), column(right), mean)
    assert found
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert found.value == pytest.approx((0.8 - half, 0.8 + half), abs=0.003)


def test_pairs_make_the_interval_of_the_drop_narrower_than_those_of_the_values() -> None:
    source = np.random.default_rng(1).random(1000) < 0.8
    variant = source.copy()
    variant[np.flatnonzero(source)[:20]] = False
    found = paired_intervals(column(variant), column(source), mean)
    assert found
    half = 1.96 * np.sqrt(0.02 * 0.98 / 1000)
    assert found.drop == pytest.approx((0.02 - half, 0.02 + half), abs=0.002)
    assert found.drop[1] - found.drop[0] < (found.value[1] - found.value[0]) / 2


def test_the_same_interval_covers_the_true_drop_about_as_often_as_it_says() -> None:
    generator, covered, rounds = np.random.default_rng(5), 0, 100
    for _ in range(rounds):
        pairs = generator.multivariate_normal([0.5, 0.4], [[1, 0.9], [0.9, 1]], size=80)
        found = paired_intervals(pairs[:, 1:], pairs[:, :1], mean)
        assert found
        covered += found.drop[0] <= 0.1 <= found.drop[1]
    assert 88 <= covered <= 99


def test_the_intervals_are_the_same_on_every_call() -> None:
    scores = np.random.default_rng(2).normal(size=(50, 1))
    assert paired_intervals(scores, scores + 1, mean) == paired_intervals(scores, scores + 1, mean)


def test_a_metric_of_several_columns_is_computed_on_the_resampled_means() -> None:
    rows = np.abs(np.random.default_rng(3).normal(size=(200, 2))) + 1
    found = paired_intervals(rows, 2 * rows, lambda means: means[..., 0] / means[..., 1])
    assert found
    assert found.drop == pytest.approx((0, 0), abs=1e-12)
    assert found.value[0] < rows[:, 0].mean() / rows[:, 1].mean() < found.value[1]


def test_resamples_without_a_value_are_left_out() -> None:
    seen: list[int] = []

    def sometimes(means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        seen.append(len(means))
        return np.where(means[..., 0] > 0.5, means[..., 0], np.nan)

    found = paired_intervals(column(np.arange(100) % 2), column(np.ones(100)), sometimes)
    assert found
    assert seen == [RESAMPLES, RESAMPLES]
    assert found.value[0] > 0.5


def test_one_row_has_no_interval() -> None:
    assert paired_intervals(np.ones((1, 1)), np.ones((1, 1)), mean) is None


def test_intervals_narrow_with_the_square_root_of_the_rows() -> None:
    scores = np.random.default_rng(4).normal(size=(20_000, 1))
    found = paired_intervals(scores, scores, mean)
    assert found
    half = 1.96 / np.sqrt(len(scores))
    assert found.value == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.002)
