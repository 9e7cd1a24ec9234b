"""Refitting a layer on what is left of its inputs."""

import numpy as np
import pytest

from controller.artifacts.graph.recovery import refit, ridge_solution

RIDGE = 1e-6


@pytest.fixture
def inputs() -> np.ndarray:
    """Six inputs of a layer on 200 rows; the last two are mixtures of the first four, and none has the mean 0."""
    generator = np.random.default_rng(5)
    free = generator.normal(size=(200, 4)) + np.array([1.0, -2.0, 3.0, 0.5])
    return np.hstack([free, free @ generator.normal(size=(4, 2)) + 1.5])


LAYER = np.random.default_rng(6).normal(size=(6, 3))
KEPT = np.arange(4)


def test_inputs_that_others_foretell_are_made_up_for_exactly(inputs: np.ndarray) -> None:
    found = refit(LAYER, KEPT, inputs, inputs[:, KEPT], "least_squares", RIDGE)
    np.testing.assert_allclose(inputs[:, KEPT] @ found.matrix + found.offset, inputs @ LAYER, atol=1e-3)


def test_a_bias_makes_up_for_the_mean_and_leaves_the_weights(inputs: np.ndarray) -> None:
    found = refit(LAYER, KEPT, inputs, inputs[:, KEPT], "bias", RIDGE)
    np.testing.assert_array_equal(found.matrix, LAYER[KEPT])
    missed = inputs @ LAYER - (inputs[:, KEPT] @ found.matrix + found.offset)
    np.testing.assert_allclose(missed.mean(axis=0), 0, atol=1e-9)


def test_no_recovery_leaves_weights_and_bias(inputs: np.ndarray) -> None:
    found = refit(LAYER, KEPT, inputs, inputs[:, KEPT], "none", RIDGE)
    np.testing.assert_array_equal(found.matrix, LAYER[KEPT])
    assert not found.offset.any()


def test_a_layer_makes_up_for_what_changed_before_it(inputs: np.ndarray) -> None:
    changed = 0.5 * inputs[:, KEPT] + 0.25
    found = refit(LAYER, KEPT, inputs, changed, "least_squares", RIDGE)
    np.testing.assert_allclose(changed @ found.matrix + found.offset, inputs @ LAYER, atol=1e-3)


def test_inputs_that_never_change_leave_the_weights_as_they_are() -> None:
    still = np.ones((20, 6))
    found = refit(LAYER, KEPT, still, still[:, KEPT], "least_squares", RIDGE)
    np.testing.assert_allclose(found.matrix, LAYER[KEPT])
    np.testing.assert_allclose(still[0, KEPT] @ found.matrix + found.offset, still[0] @ LAYER)


@pytest.mark.parametrize("rows", [3, 30], ids=["fewer rows than inputs", "more rows than inputs"])
def test_both_forms_give_the_minimum_of_the_penalised_error(rows: int) -> None:
    generator = np.random.default_rng(7)
    given, wanted = generator.normal(size=(rows, 8)), generator.normal(size=(rows, 2))
    ridge = 0.1
    found = ridge_solution(given, wanted, ridge)
    # Where the gradient of |BX - Y|^2 + l |X|^2 is zero.
    penalty = ridge * np.mean(np.sum(given**2, axis=0))
    np.testing.assert_allclose(given.T @ (given @ found - wanted) + penalty * found, 0, atol=1e-9)
