import itertools

import pytest

from controller.domain.errors import Conflict
from controller.domain.rollout import OPEN_STATES, TRANSITIONS, RolloutEvent, RolloutState, transition
from tests.support.decisions import a_rollout
from tests.support.transition_grids import reachable, read_grid

PAIRS = list(itertools.product(RolloutState, RolloutEvent))

# A dash is a refusal. Columns are events, rows are states, cells the state afterwards.
EXPECTED = read_grid(
    """
               approve  stage_passed  last_stage_passed  gate_failed  pause   resume   abort      reverted
    proposed   running  -             -                  -            -       -        aborted    -
    running    -        running       succeeded          reverting    paused  -        reverting  -
    paused     -        -             -                  reverting    -       running  reverting  -
    reverting  -        -             -                  -            -       -        -          aborted
    succeeded  -        -             -                  -            -       -        -          -
    aborted    -        -             -                  -            -       -        -          -
    """
)


def test_the_grid_names_every_state_with_every_event() -> None:
    assert set(EXPECTED) == set(PAIRS)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_event_in_every_state_leads_where_the_grid_says(state: RolloutState, event: RolloutEvent) -> None:
    expected = EXPECTED[state, event]
    if expected is None:
        with pytest.raises(Conflict):
            transition(state, event)
    else:
        assert transition(state, event) == expected


def test_every_state_can_be_reached_from_a_proposed_rollout() -> None:
    assert reachable(TRANSITIONS, RolloutState.PROPOSED) == set(RolloutState)


def test_no_rollout_is_ever_proposed_again_once_it_runs() -> None:
    assert RolloutState.PROPOSED not in reachable(TRANSITIONS, RolloutState.RUNNING)


def test_every_open_rollout_can_still_end() -> None:
    for state in OPEN_STATES:
        assert reachable(TRANSITIONS, state) & {RolloutState.SUCCEEDED, RolloutState.ABORTED}


def test_every_event_is_possible_somewhere() -> None:
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(RolloutEvent)


def test_the_planner_looks_at_what_has_not_ended() -> None:
    assert {
        RolloutState.PROPOSED,
        RolloutState.RUNNING,
        RolloutState.PAUSED,
        RolloutState.REVERTING,
    } == OPEN_STATES


def test_a_refused_event_says_what_is_possible_instead() -> None:
    with pytest.raises(Conflict, match="the rollout is paused and cannot pause; possible: resume, gate_failed, abort"):
        transition(RolloutState.PAUSED, RolloutEvent.PAUSE)


def test_a_refused_event_of_an_ended_rollout_says_that_it_has_ended() -> None:
    with pytest.raises(Conflict, match="the rollout is aborted and cannot resume; possible: nothing") as refused:
        transition(RolloutState.ABORTED, RolloutEvent.RESUME)
    assert refused.value.code == "rollout_state"


def test_the_cutoff_is_that_of_the_current_stage() -> None:
    rollout = a_rollout(stage=1)
    assert rollout.cutoff == rollout.stages[1].cutoff
