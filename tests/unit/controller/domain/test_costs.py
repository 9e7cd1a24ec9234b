"""Costs: what is stored comes back, and factors are learnt from what is reported, whatever one variant says."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.costs import (
    CONTROLLER,
    FACTOR_LEAST,
    FACTOR_MOST,
    REQUESTS_LEAST,
    REQUESTS_MOST,
    Comparison,
    Cost,
    DeviceClass,
    LearnedFactor,
    learn_factor,
    unfit,
)
from tests.support.decisions import a_cost


def reported(factor: float, requests: int = 1000, *, estimated_us: float = 500.0) -> Comparison:
    return Comparison(estimated_us, estimated_us * factor, requests)


def factor_of(*comparisons: Comparison) -> float:
    learned = learn_factor(comparisons)
    assert learned
    return learned.factor


@pytest.mark.parametrize("cost", [a_cost(factor=3.5), unfit(CONTROLLER, "it is too large", "a processor")])
def test_a_cost_survives_the_database(cost: Cost) -> None:
    assert Cost.from_json(json.loads(json.dumps(cost.to_json()))) == cost


def test_a_duration_is_corrected_by_the_factor_and_a_missing_one_stays_missing() -> None:
    cost = a_cost(200.0, factor=4.0)
    assert (cost.corrected(cost.p50_us), cost.corrected(cost.p99_us), cost.corrected(None)) == (800.0, 2400.0, None)


def test_what_did_not_run_has_no_figures_but_its_limits_and_its_reason() -> None:
    cost = unfit(DeviceClass("sensor", 2, 1000), "it grew too large", "a processor")
    assert (cost.fits, cost.reason, cost.threads, cost.memory_bytes) == (False, "it grew too large", 2, 1000)
    assert (cost.p50_us, cost.p90_us, cost.p99_us, cost.load_ms, cost.peak_bytes, cost.steady_bytes) == (None,) * 6


def test_a_factor_is_how_many_times_longer_the_devices_take() -> None:
    assert learn_factor([reported(3.0)]) == LearnedFactor(pytest.approx(3.0), 1, 1000)


def test_too_few_requests_teach_nothing() -> None:
    assert learn_factor([]) is None
    assert learn_factor([reported(3.0, REQUESTS_LEAST - 1)]) is None
    half = REQUESTS_LEAST // 2
    assert learn_factor([reported(3.0, half), reported(3.0, half)]) == LearnedFactor(
        pytest.approx(3.0), 2, REQUESTS_LEAST
    )


def test_one_variant_that_is_far_off_does_not_move_the_factor() -> None:
    assert factor_of(reported(3.0), reported(3.1), reported(500.0)) == pytest.approx(3.1)


def test_a_variant_with_few_requests_does_not_outvote_one_with_many() -> None:
    assert factor_of(reported(2.0, 5000), reported(50.0, 10), reported(60.0, 10)) == pytest.approx(2.0)


def test_a_busy_variant_does_not_outvote_all_others() -> None:
    others = [reported(3.0, REQUESTS_MOST) for _ in range(2)]
    assert factor_of(reported(40.0, 10**9), *others) == pytest.approx(3.0)


def test_between_two_halves_of_equal_weight_lies_their_geometric_middle() -> None:
    assert factor_of(reported(2.0), reported(8.0)) == pytest.approx(4.0)


@pytest.mark.parametrize(("found", "kept"), [(1e-6, FACTOR_LEAST), (1e9, FACTOR_MOST), (0.5, 0.5)])
def test_a_factor_that_no_device_has_is_bounded(found: float, kept: float) -> None:
    assert factor_of(reported(found)) == pytest.approx(kept)


@pytest.mark.parametrize("senseless", [Comparison(0.0, 5.0, 1000), Comparison(5.0, 0.0, 1000), Comparison(5.0, 5.0, 0)])
def test_durations_of_nothing_are_not_learnt_from(senseless: Comparison) -> None:
    assert learn_factor([senseless]) is None
    assert learn_factor([senseless, reported(3.0)]) == LearnedFactor(pytest.approx(3.0), 1, 1000)


comparisons = st.builds(
    Comparison, st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.integers(REQUESTS_LEAST, 10 * REQUESTS_MOST)
)


@given(st.lists(comparisons, min_size=1, max_size=8), st.randoms())
def test_a_factor_lies_among_the_ratios_and_does_not_depend_on_their_order(
    found: list[Comparison], random: Random
) -> None:
    ratios = [one.reported_p50_us / one.estimated_p50_us for one in found]
    least, most = (min(max(edge, FACTOR_LEAST), FACTOR_MOST) for edge in (min(ratios), max(ratios)))
    factor = factor_of(*found)
    assert least * (1 - 1e-9) <= factor <= most * (1 + 1e-9)
    random.shuffle(found)
    assert math.isclose(factor_of(*found), factor)
