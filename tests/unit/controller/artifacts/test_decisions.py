"""Reading a class out of a model's outputs."""

import numpy as np
import pytest

from controller.artifacts.behaviour.decisions import decide


def test_the_largest_score_decides_and_the_second_tells_how_clearly() -> None:
    decisions = decide({"scores": np.array([[0.1, 0.7, 0.2], [0.5, 0.1, 0.4]], np.float32)})
    assert decisions
    assert decisions.labels.tolist() == [1, 0]
    assert decisions.margins == pytest.approx([0.5, 0.1])
    assert decisions.classes == 3


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_single_score_decides_between_two_classes_at_one_half(shape: tuple[int, ...]) -> None:
    decisions = decide({"probability": np.array([0.2, 0.5, 0.9]).reshape(shape)})
    assert decisions
    assert decisions.labels.tolist() == [0, 0, 1]
    assert decisions.margins == pytest.approx([0.3, 0.0, 0.4])
    assert decisions.classes == 2


def test_scores_tell_more_than_the_class_beside_them() -> None:
    outputs = {"label": np.array([1, 0]), "probabilities": np.array([[0.4, 0.6], [0.9, 0.1]])}
    decisions = decide(outputs)
    assert decisions
    assert decisions.margins == pytest.approx([0.2, 0.8])


def test_a_class_alone_is_taken_as_it_is() -> None:
    decisions = decide({"label": np.array([2, 0], np.int64)})
    assert decisions
    assert decisions.labels.tolist() == [2, 0]
    assert decisions.classes is None


def test_outputs_of_another_form_name_no_class() -> None:
    assert decide({"boxes": np.zeros((2, 10, 4), np.float32)}) is None
