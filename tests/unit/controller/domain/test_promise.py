"""The promise: how far a variant's metric may fall, by the measured drop or by its interval."""

import json
from typing import Any

import pytest

from controller.domain.errors import InvalidInput
from controller.domain.promise import Promise, broken, compared


def figures(value: float | None, source_value: float | None, **changes: Any) -> dict[str, Any]:
    return {"metric": "accuracy", "value": value, "source_value": source_value, "samples": 400, **changes}


@pytest.mark.parametrize("value", [0.99, 0.98, 0.97])
def test_a_variant_at_most_as_far_below_as_promised_keeps_the_promise(value: float) -> None:
    assert broken(figures(value, 0.98), Promise(drop_max=0.01)) is None


def test_a_variant_further_below_breaks_it_and_the_words_hold_the_numbers() -> None:
    found = figures(0.9675, 0.98, drop_ci=[0.0025, 0.025])
    assert broken(found, Promise(drop_max=0.01)) == (
        "accuracy 0.9675 is 1.25 points below the source's 0.9800 on 400 samples "
        "(95 % interval of the drop: 0.25 to 2.50 points); the promise is at most 1 points"
    )


def test_by_interval_a_small_drop_on_few_samples_is_not_good_enough() -> None:
    found = figures(0.975, 0.98, drop_ci=[-0.005, 0.0175])
    assert broken(found, Promise(drop_max=0.01)) is None
    words = broken(found, Promise(drop_max=0.01, rule="interval"))
    assert words
    assert words.endswith("the interval reaches 1.75 points, the promise is at most 1 points")


def test_by_interval_a_drop_that_surely_lies_below_the_limit_keeps_the_promise() -> None:
    assert broken(figures(0.975, 0.98, drop_ci=[0.001, 0.01]), Promise(drop_max=0.01, rule="interval")) is None


def test_by_interval_figures_without_an_interval_break_the_promise() -> None:
    words = broken(figures(0.98, 0.98, drop_ci=None), Promise(drop_max=0.01, rule="interval"))
    assert words
    assert "too few for the 95 % interval" in words


def test_other_metrics_than_shares_are_told_in_their_own_units() -> None:
    words = broken(figures(0.91, 0.95, metric="r2", drop_ci=(0.03, 0.05)), Promise("r2", 0.02))
    assert words == (
        "r2 0.9100 is 0.0400 below the source's 0.9500 on 400 samples (95 % interval of the drop: 0.0300 to 0.0500); "
        "the promise is at most 0.02"
    )


@pytest.mark.parametrize("drop_max", [0.0, None])
def test_without_evaluation_data_nothing_was_promised(drop_max: float | None) -> None:
    assert broken(figures(None, None, metric=None), Promise(drop_max=drop_max)) is None


def test_without_a_limit_anything_goes() -> None:
    assert broken(figures(0.1, 0.98), Promise()) is None


@pytest.mark.parametrize("measured", ["accuracy", None])
def test_figures_of_another_metric_than_promised_break_the_promise(measured: str | None) -> None:
    words = broken(figures(None, None, metric=measured), Promise("plugin:miou", 0.01))
    assert words == f"the promise is about plugin:miou, and the figures are of {measured or 'no metric'}"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.99, "is 1.00 points above the source's 0.9800 on 400"),
        (0.98, "accuracy 0.9800 is the source's on 400 samples"),
    ],
)
def test_a_variant_that_lost_nothing_is_told_so(value: float, words: str) -> None:
    assert words in compared(figures(value, 0.98))


@pytest.mark.parametrize(
    ("given", "field"),
    [({"drop_max": -0.1}, "drop_max"), ({"drop_max": float("nan")}, "drop_max"), ({"rule": "mean"}, "rule")],
)
def test_a_promise_that_cannot_be_judged_is_refused(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Promise(**given)
    assert (refusal.value.code, refusal.value.field) == ("promise_invalid", f"/promise/{field}")


@pytest.mark.parametrize("promise", [Promise(), Promise("plugin:miou", 0.02, "interval")])
def test_a_promise_survives_its_stored_form(promise: Promise) -> None:
    assert Promise.from_json(json.loads(json.dumps(promise.to_json()))) == promise
