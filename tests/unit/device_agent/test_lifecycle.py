"""The slot's table, cell by cell, and what every finding after a start leads to."""

from itertools import product

import pytest

from device_agent.lifecycle import (
    RECOVERY,
    TRANSITIONS,
    Command,
    Found,
    IllegalMoveError,
    Move,
    Recovery,
    SlotEvent,
    SlotFound,
    SlotState,
    TrialFound,
    Wish,
    transition,
    wish_event,
)

GRID = """
            assigned   recalled   withdrawn  fetched    proven     joined     loaded     crashed     soaked    failed
resting     fetch      -          clear      -          -          -          -          -           -         -
fetching    fetch      abandon    clear      test       -          -          -          -           -         give_up
testing     -          -          -          -          wait       -          -          -           -         give_up
ready       fetch      abandon    clear      -          -          load       -          -           -         give_up
activating  -          revert     clear      -          -          -          watch      activate    -         revert
soaking     -          revert     clear      -          -          -          -          activate    confirm   revert
"""
LEADS_TO = {
    Command.FETCH: SlotState.FETCHING,
    Command.TEST: SlotState.TESTING,
    Command.WAIT: SlotState.READY,
    Command.LOAD: SlotState.ACTIVATING,
    Command.ACTIVATE: SlotState.ACTIVATING,
    Command.WATCH: SlotState.SOAKING,
}


def cells() -> list[tuple[SlotState, SlotEvent, Command | None]]:
    header, *rows = (line.split() for line in GRID.strip().splitlines())
    return [
        (SlotState(state), SlotEvent(event), None if cell == "-" else Command(cell))
        for state, *row in rows
        for event, cell in zip(header, row, strict=True)
    ]


def test_the_grid_names_every_state_and_event() -> None:
    assert {(state, event) for state, event, _ in cells()} == set(product(SlotState, SlotEvent))


@pytest.mark.parametrize(("state", "event", "command"), cells())
def test_every_pair_of_state_and_event_is_the_move_of_the_grid_or_refused(
    state: SlotState, event: SlotEvent, command: Command | None
) -> None:
    if command is None:
        with pytest.raises(IllegalMoveError, match=f"a slot that is {state} cannot be {event}"):
            transition(state, event)
    else:
        assert transition(state, event) == Move(LEADS_TO.get(command, SlotState.RESTING), command)


def test_every_command_is_used_and_every_state_can_be_reached_and_left() -> None:
    moves = [move for row in TRANSITIONS.values() for move in row.values()]
    assert {move.command for move in moves} == set(Command)
    assert {move.state for move in moves} == set(SlotState)
    assert all(TRANSITIONS[state] for state in SlotState)


def test_only_a_trial_can_be_soaked_and_only_a_ready_candidate_can_begin_one() -> None:
    before = {state for state, row in TRANSITIONS.items() if SlotEvent.SOAKED in row}
    assert before == {SlotState.SOAKING}
    to_trial = {
        (state, event)
        for state, row in TRANSITIONS.items()
        for event, move in row.items()
        if move.state is SlotState.ACTIVATING
    }
    assert to_trial == {
        (SlotState.READY, SlotEvent.JOINED),
        (SlotState.ACTIVATING, SlotEvent.CRASHED),
        (SlotState.SOAKING, SlotEvent.CRASHED),
    }


TRIALS = (SlotState.ACTIVATING, SlotState.SOAKING)


@pytest.mark.parametrize(
    ("state", "wish", "event"),
    [
        (SlotState.RESTING, Wish("new", "old", None, refused=False), SlotEvent.ASSIGNED),
        (SlotState.RESTING, Wish("new", None, None, refused=False), SlotEvent.ASSIGNED),
        (SlotState.RESTING, Wish("old", "old", None, refused=False), None),
        (SlotState.RESTING, Wish("new", "old", None, refused=True), None),
        (SlotState.RESTING, Wish(None, "old", None, refused=False), SlotEvent.WITHDRAWN),
        (SlotState.RESTING, Wish(None, None, None, refused=False), None),
        (SlotState.FETCHING, Wish("new", "old", "new", refused=False), None),
        (SlotState.FETCHING, Wish("newer", "old", "new", refused=False), SlotEvent.ASSIGNED),
        (SlotState.FETCHING, Wish("old", "old", "new", refused=False), SlotEvent.RECALLED),
        (SlotState.FETCHING, Wish("newer", "old", "new", refused=True), SlotEvent.RECALLED),
        (SlotState.FETCHING, Wish(None, None, "new", refused=False), SlotEvent.WITHDRAWN),
        (SlotState.READY, Wish("new", "old", "new", refused=False), None),
        (SlotState.READY, Wish("newer", "old", "new", refused=False), SlotEvent.ASSIGNED),
        (SlotState.READY, Wish("old", "old", "new", refused=False), SlotEvent.RECALLED),
        (SlotState.READY, Wish(None, None, "new", refused=False), SlotEvent.WITHDRAWN),
        *[(state, Wish("new", "old", "new", refused=False), None) for state in TRIALS],
        *[(state, Wish("newer", "old", "new", refused=False), None) for state in TRIALS],
        *[(state, Wish("newer", "old", "new", refused=True), None) for state in TRIALS],
        *[(state, Wish("old", "old", "new", refused=False), SlotEvent.RECALLED) for state in TRIALS],
        *[(state, Wish(None, "old", "new", refused=False), SlotEvent.WITHDRAWN) for state in TRIALS],
    ],
)
def test_what_an_assignment_means_to_a_slot(state: SlotState, wish: Wish, event: SlotEvent | None) -> None:
    assert wish_event(state, wish) == event


@pytest.mark.parametrize("state", [state for state in SlotState if state is not SlotState.TESTING])
def test_whatever_an_assignment_asks_is_a_legal_event(state: SlotState) -> None:
    names = ("old", "new", "newer", None)
    candidates = (None,) if state is SlotState.RESTING else ("new",)
    for wanted, confirmed, candidate, refused in product(names, ("old", None), candidates, (True, False)):
        event = wish_event(state, Wish(wanted, confirmed, candidate, refused))
        assert event is None or event in TRANSITIONS[state]


RECOVERIES = """
          active    confirmed  recovery
none      absent    absent     rest
none      intact    intact     load
none      damaged   damaged    empty
open      intact    absent     resume_trial
open      intact    intact     resume_trial
open      intact    damaged    resume_trial
open      damaged   intact     drop_trial
open      absent    intact     drop_trial
open      damaged   absent     empty
open      damaged   damaged    empty
open      absent    absent     empty
open      absent    damaged    empty
spent     intact    intact     refuse_trial
spent     damaged   intact     refuse_trial
spent     absent    intact     refuse_trial
spent     intact    absent     refuse_and_empty
spent     intact    damaged    refuse_and_empty
spent     damaged   absent     refuse_and_empty
spent     damaged   damaged    refuse_and_empty
spent     absent    absent     refuse_and_empty
spent     absent    damaged    refuse_and_empty
"""


@pytest.mark.parametrize("row", RECOVERIES.strip().splitlines()[1:])
def test_every_finding_after_a_start_has_its_continuation(row: str) -> None:
    trial, active, confirmed, recovery = row.split()
    assert RECOVERY[SlotFound(TrialFound(trial), Found(active), Found(confirmed))] is Recovery(recovery)


def test_no_combination_of_findings_is_left_out() -> None:
    assert set(RECOVERY) == {SlotFound(*parts) for parts in product(TrialFound, Found, Found)}
    assert set(RECOVERY.values()) == set(Recovery)


def test_a_damaged_candidate_is_never_refused_unless_its_boots_are_spent() -> None:
    refusing = {Recovery.REFUSE_TRIAL, Recovery.REFUSE_AND_EMPTY}
    assert {found.trial for found, action in RECOVERY.items() if action in refusing} == {TrialFound.SPENT}
