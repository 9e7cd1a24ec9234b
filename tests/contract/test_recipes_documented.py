import itertools

import msgspec
import pytest

from controller.artifacts.recipes import PHASES
from controller.artifacts.steps.parameters import STEPS
from ops.docs.recipes import (
    ANYWHERE,
    GROUPS,
    PAGE,
    always_needs_inputs,
    choices_with_inputs,
    combinations,
    may_follow,
    render,
    yaml_of,
)


def test_every_step_and_every_parameter_says_what_it_is_for() -> None:
    (*_,), definitions = msgspec.json.schema_components([kind.parameters for kind in STEPS.values()])
    silent = [
        (step, name)
        for step, kind in STEPS.items()
        for name, schema in definitions[kind.parameters.__name__]["properties"].items()
        if not any("description" in one for one in (schema, *schema.get("anyOf", ())))
    ]
    assert silent == []
    assert [step for step, kind in STEPS.items() if not kind.parameters.__doc__] == []


def test_the_groups_of_the_page_hold_every_step_but_the_one_that_stands_anywhere() -> None:
    assert len(GROUPS) == len(PHASES)
    assert {step for steps in PHASES for step in steps} == STEPS.keys() - {ANYWHERE}


def test_a_step_of_a_later_group_never_comes_before_one_of_an_earlier_group() -> None:
    for earlier, later in itertools.combinations(PHASES, 2):
        for first, second in itertools.product(earlier, later):
            assert may_follow(first, second), (first, second)
            assert not may_follow(second, first), (second, first)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_needs_inputs_exactly_when_the_page_says_so(step: str) -> None:
    named = set(choices_with_inputs(step))
    for parameters in combinations(step):
        chosen = {(name, yaml_of(getattr(parameters, name))) for name in parameters.__struct_fields__}
        assert parameters.calibrates == (always_needs_inputs(step) or bool(named & chosen)), chosen


def test_the_page_of_recipes_is_the_one_that_steps_and_recipes_make() -> None:
    assert PAGE.read_text() == render(), "steps or recipes have changed; run: ./run exec python -m ops.docs.recipes"
