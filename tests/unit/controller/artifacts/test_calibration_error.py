"""The expected calibration error, of numbers worked out by hand and of models that are sure without reason."""

import numpy as np
import pytest

from controller.artifacts.behaviour.calibration_error import calibration_of, expected_calibration_error


def test_the_gap_of_every_bin_counts_by_its_rows() -> None:
    # One bin of two rows at 0.95, one of them right; one of four at 0.6, three right.
    confidence = np.array([0.95, 0.95, 0.6, 0.6, 0.6, 0.6])
    right = np.array([True, False, True, True, True, False])
    assert expected_calibration_error(confidence, right) == pytest.approx((2 * 0.45 + 4 * 0.15) / 6)


def test_errors_to_both_sides_within_a_bin_cancel_and_across_bins_do_not() -> None:
    right = np.array([True, False])
    assert expected_calibration_error(np.array([0.5, 0.5]), right) == 0
    assert expected_calibration_error(np.array([0.4, 0.6]), right) == pytest.approx(0.6)


def test_a_model_that_is_right_as_often_as_it_says_has_a_small_error() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random((20_000, 1)).astype(np.float32)
    outputs = {"p": np.concatenate([1 - probability, probability], axis=1)}
    labels = (generator.random(20_000) < probability[:, 0]).astype(np.int64)
    sharper = {"p": (outputs["p"] > 0.5).astype(np.float32)}
    found = calibration_of(outputs, sharper, labels)
    assert found
    assert found["source_value"] < 0.02
    assert found["value"] == pytest.approx(0.25, abs=0.02)


def test_scores_are_read_as_logarithms_and_minus_infinity_is_never() -> None:
    scores = {
        "s": np.log(
            np.array([[0.8, 0.2, 0.0], [0.3, 0.7, 0.0]]), where=[[True, True, False]] * 2, out=np.full((2, 3), -np.inf)
        )
        + 5
    }
    found = calibration_of(scores, scores, np.array([0, 1]))
    assert found == pytest.approx({"value": 0.25, "source_value": 0.25})


def test_what_probabilities_are_is_told_by_the_source_when_the_variants_no_longer_add_up() -> None:
    exact = {"p": np.array([[0.9, 0.1]] * 10, np.float32)}
    coarse = {"p": np.array([[0.9, 0.15]] * 10, np.float32)}
    found = calibration_of(exact, coarse, np.zeros(10, np.int64))
    assert found
    assert found["value"] == pytest.approx(1 - 0.9 / 1.05, abs=1e-6)


def test_one_probability_decides_between_two_classes() -> None:
    outputs = {"p": np.array([[0.75], [0.25], [0.75], [0.25]], np.float32)}
    found = calibration_of(outputs, outputs, np.array([1, 0, 1, 1]))
    assert found
    assert found["value"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("outputs", [{"label": np.array([0, 1])}, {"score": np.array([[-3.0], [4.0]], np.float32)}])
def test_outputs_that_tell_no_probabilities_have_no_error(outputs: dict[str, np.ndarray]) -> None:
    assert calibration_of(outputs, outputs, np.array([0, 1])) is None
