import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields
from device_agent.protocol.histogram import BUCKETS_MAX, Histogram, merge
from tests.support.malformed_json import damaged

DURATIONS = st.lists(st.floats(1e-6, 30.0), min_size=1, max_size=50)


def histogram_of(durations: list[float]) -> Histogram:
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)
    return histogram


def read(document: object) -> Histogram:
    return Histogram.read(Fields(document, "report"))


VALID: dict[str, Any] = histogram_of([0.001, 0.002, 0.002, 3.0]).to_json()


@given(durations=DURATIONS, share=st.floats(0.01, 1.0))
def test_a_quantile_is_within_its_stated_error_of_the_exact_one(durations: list[float], share: float) -> None:
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    assert histogram_of(durations).quantile(share) == pytest.approx(exact, rel=0.0221)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (1.0, 1.0)])
def test_quantiles_of_a_thousand_evenly_spread_durations(share: float, expected: float) -> None:
    quantile = histogram_of([number / 1000 for number in range(1, 1001)]).quantile(share)
    assert quantile == pytest.approx(expected, rel=0.0221)


def test_an_empty_histogram_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_went_back_counts_as_no_time(seconds: float) -> None:
    assert histogram_of([seconds]).quantile(1.0) == pytest.approx(1e-9, rel=0.05)


@given(first=DURATIONS, second=DURATIONS)
def test_merging_loses_nothing(first: list[float], second: list[float]) -> None:
    merged, together = merge([histogram_of(first), histogram_of(second)]), histogram_of(first + second)
    assert merged.buckets == together.buckets
    assert merged.count == together.count
    assert merged.total_s == pytest.approx(together.total_s)


@given(DURATIONS)
def test_a_histogram_survives_the_wire(durations: list[float]) -> None:
    histogram = histogram_of(durations)
    received = read(json.loads(json.dumps(histogram.to_json())))
    assert received.buckets == histogram.buckets
    assert received.count == histogram.count
    assert received.total_s == pytest.approx(histogram.total_s, abs=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 3},
        {"count": 5},
        {"indices": [1]},
        {"indices": None},
        {"indices": [1, 1, 2], "counts": [1, 1, 2]},
        {"indices": [1.5], "counts": [4]},
        {"counts": [4, 0, 0]},
        {"indices": list(range(BUCKETS_MAX + 1)), "counts": [1] * (BUCKETS_MAX + 1), "count": BUCKETS_MAX + 1},
        {"indices": [100_000], "counts": [4]},
        {"indices": [-100_000], "counts": [4]},
        {"total_s": -1},
    ],
    ids=[
        "other schema",
        "counts do not add up",
        "lists of two lengths",
        "no list",
        "bucket named twice",
        "bucket between buckets",
        "empty bucket",
        "too many buckets",
        "bucket above all durations",
        "bucket below all durations",
        "negative total",
    ],
)
def test_a_histogram_that_does_not_fit_together_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as refused:
        read({**VALID, **change})
    assert refused.value.code is Code.MALFORMED


@given(damaged(VALID))
def test_whatever_is_read_can_be_merged_and_asked_for_quantiles(document: object) -> None:
    try:
        histogram = read(document)
    except ProtocolError:
        return
    assert (merge([histogram, histogram]).quantile(0.5) is None) == (histogram.count == 0)
