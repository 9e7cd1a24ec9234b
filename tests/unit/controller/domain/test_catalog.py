import itertools

import pytest

from controller.domain.catalog import NEXT_TASK, TRANSITIONS, VariantEvent, VariantState, transition
from controller.domain.errors import Conflict
from tests.support.transition_grids import reachable, read_grid

PAIRS = list(itertools.product(VariantState, VariantEvent))

# A dash is a refusal. Columns are events, rows are states, cells the state afterwards.
EXPECTED = read_grid(
    """
                compress_done  promise_kept  promise_broken  measure_done  set_aside  chosen      signed     gave_up  cancel     asked_again
    queued      compressed     -             -               -             -          -           -          failed   cancelled  -
    compressed  -              evaluated     refused         -             -          -           -          failed   cancelled  -
    evaluated   -              -             -               measured      aside      -           -          failed   cancelled  -
    measured    -              -             -               -             -          -           published  failed   cancelled  -
    aside       -              -             -               -             -          compressed  -          -        -          -
    published   -              -             -               -             -          -           -          -        -          -
    refused     -              -             -               -             -          -           -          -        -          queued
    failed      -              -             -               -             -          -           -          -        -          queued
    cancelled   -              -             -               -             -          -           -          -        -          queued
    """  # noqa: E501
)


def test_the_grid_names_every_state_with_every_event() -> None:
    assert set(EXPECTED) == set(PAIRS)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_event_in_every_state_leads_where_the_grid_says(state: VariantState, event: VariantEvent) -> None:
    expected = EXPECTED[state, event]
    if expected is None:
        with pytest.raises(Conflict, match=f"a variant that is {state} cannot take {event}"):
            transition(state, event)
    else:
        assert transition(state, event) == expected


def test_every_state_can_be_reached_from_an_upload() -> None:
    assert reachable(TRANSITIONS, VariantState.QUEUED) == set(VariantState)


def test_every_event_is_possible_somewhere() -> None:
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(VariantEvent)


def test_a_variant_has_a_next_task_exactly_while_it_does_not_rest() -> None:
    """The sweep derives work from this table: a state that is forgotten in it would never be worked on."""
    assert set(NEXT_TASK) == {state for state, moves in TRANSITIONS.items() if VariantEvent.GAVE_UP in moves}


def test_only_a_variant_that_kept_the_promise_and_was_signed_is_published() -> None:
    to_published = [(state, event) for (state, event), after in EXPECTED.items() if after == VariantState.PUBLISHED]
    assert to_published == [(VariantState.MEASURED, VariantEvent.SIGNED)]
    assert [event for (_, event), after in EXPECTED.items() if after == VariantState.EVALUATED] == [
        VariantEvent.PROMISE_KEPT
    ]
