from typing import Any

import pytest

from controller.store.views.step_words import headline


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"words": "clipping does not pay", "damage": {"disagreement": 0.0}}, "clipping does not pay; 0 % of the"),
        ({"weights": "int8", "disagreement": 0.0234, "relative_error": 0.0149}, "weights int8; 2.34 % of the answers"),
        ({"weights": 6464, "sparsity": 0.5}, "50 % of the weights are zero"),
        ({"parameters_before": 6570, "parameters_after": 2778}, "6570 parameters became 2778"),
        ({"layers": [{"name": "a", "excluded": True}, {"name": "b", "excluded": False}]}, "left alone: a"),
    ],
)
def test_what_a_step_stored_becomes_one_line(facts: dict[str, Any], told: str) -> None:
    assert headline(facts).startswith(told)


def test_of_the_students_that_were_tried_the_chosen_one_is_told() -> None:
    tried = [{"hidden": [8], "agreement": 0.5}, {"hidden": [16, 4], "agreement": 0.98}]
    assert headline({"hidden": [16, 4], "tried": tried}) == "hidden 16 + 4; 98 % of the answers like the teacher's"


def test_a_step_that_stored_nothing_known_is_told_in_no_words() -> None:
    assert headline({"novel": 3, "layers": []}) == ""
