"""The promise: how much accuracy a variant may lose."""

import pytest

from controller.artifacts.findings import Evaluation
from controller.use_cases.evaluate_variant import broken_promise


def evaluation(value: float | None, source_value: float | None) -> Evaluation:
    return Evaluation("accuracy", value, source_value, 1.0, 400, 32, 0.01, 0.001)


@pytest.mark.parametrize("value", [0.99, 0.98, 0.97])
def test_a_variant_at_most_as_far_below_as_promised_keeps_the_promise(value: float) -> None:
    assert broken_promise(evaluation(value, 0.98), 0.01) is None


def test_a_variant_further_below_breaks_it_and_the_words_hold_the_numbers() -> None:
    words = broken_promise(evaluation(0.9675, 0.98), 0.01)
    assert words
    assert "accuracy 0.9675 is 1.25 points below the source's 0.9800 on 400 samples; at most 1 points" in words


def test_without_evaluation_data_nothing_was_promised() -> None:
    assert broken_promise(evaluation(None, None), 0.0) is None
