"""The life of a slot: states, events, the one table of legal moves, and what to do with what a start finds.

Nothing here acts. A move names the command that the slot's worker carries out, and the result of the command
is the next event. The first column of every row is what the journal can tell after a loss of power:

    RESTING     no trial in the journal; whatever is confirmed runs, which may be nothing
    FETCHING    as RESTING, with a partial download in the stage directory
    TESTING     as RESTING, with a complete model directory that nothing refers to yet
    READY       as TESTING; the candidate waits for the other slots of its assignment (`bundle`)
    ACTIVATING  a trial in the journal; the candidate is being loaded
    SOAKING     a trial in the journal; the candidate serves and is being watched

One commit separates the two halves (READY to ACTIVATING, for all slots of the assignment at once), and one more ends a
trial, so a device that loses power anywhere comes back either to the models it had confirmed or to the trials it had
begun.
"""

from dataclasses import dataclass
from enum import StrEnum

BOOTS_MAX = 3
"""How often a trial may be begun: a candidate that takes the device down that often is given up."""


class SlotState(StrEnum):
    """Where a slot is."""

    RESTING = "resting"
    FETCHING = "fetching"
    TESTING = "testing"
    READY = "ready"
    ACTIVATING = "activating"
    SOAKING = "soaking"


class SlotEvent(StrEnum):
    """What happened to a slot."""

    ASSIGNED = "assigned"
    """It shall run a manifest that it neither runs nor works on."""
    RECALLED = "recalled"
    """It shall stay with, or go back to, the confirmed manifest."""
    WITHDRAWN = "withdrawn"
    """It shall run nothing."""
    FETCHED = "fetched"
    """The candidate is complete on disk and every byte is as signed."""
    PROVEN = "proven"
    """The candidate answered its golden inputs within tolerance."""
    JOINED = "joined"
    """Every slot of the assignment is ready, and the trials of all of them have been committed."""
    LOADED = "loaded"
    """The serving process has switched to the candidate."""
    CRASHED = "crashed"
    """The device, the agent or the serving process went down while the candidate was on trial."""
    SOAKED = "soaked"
    """The candidate stayed healthy for as long as was asked."""
    FAILED = "failed"
    """The present work on the candidate cannot go on."""


class Command(StrEnum):
    """What the worker does next."""

    FETCH = "fetch"
    TEST = "test"
    WAIT = "wait"
    """Wait until every slot of the assignment is ready."""
    LOAD = "load"
    """Load the candidate."""
    ACTIVATE = "activate"
    """Commit the trial with one more boot, then load the candidate."""
    WATCH = "watch"
    CONFIRM = "confirm"
    GIVE_UP = "give_up"
    """Leave a candidate that never served, and say why."""
    ABANDON = "abandon"
    """Leave a candidate that never served because nobody wants it any more."""
    REVERT = "revert"
    """Commit the end of the trial, then load what was confirmed before."""
    CLEAR = "clear"
    """Commit an empty slot, then unload."""


@dataclass(frozen=True)
class Move:
    """Where an event leads, and what is to be done there."""

    state: SlotState
    command: Command


TRANSITIONS: dict[SlotState, dict[SlotEvent, Move]] = {
    SlotState.RESTING: {
        SlotEvent.ASSIGNED: Move(SlotState.FETCHING, Command.FETCH),
        SlotEvent.WITHDRAWN: Move(SlotState.RESTING, Command.CLEAR),
    },
    SlotState.FETCHING: {
        SlotEvent.ASSIGNED: Move(SlotState.FETCHING, Command.FETCH),
        SlotEvent.RECALLED: Move(SlotState.RESTING, Command.ABANDON),
        SlotEvent.WITHDRAWN: Move(SlotState.RESTING, Command.CLEAR),
        SlotEvent.FETCHED: Move(SlotState.TESTING, Command.TEST),
        SlotEvent.FAILED: Move(SlotState.RESTING, Command.GIVE_UP),
    },
    SlotState.TESTING: {
        SlotEvent.PROVEN: Move(SlotState.READY, Command.WAIT),
        SlotEvent.FAILED: Move(SlotState.RESTING, Command.GIVE_UP),
    },
    SlotState.READY: {
        SlotEvent.ASSIGNED: Move(SlotState.FETCHING, Command.FETCH),
        SlotEvent.RECALLED: Move(SlotState.RESTING, Command.ABANDON),
        SlotEvent.WITHDRAWN: Move(SlotState.RESTING, Command.CLEAR),
        SlotEvent.JOINED: Move(SlotState.ACTIVATING, Command.LOAD),
        SlotEvent.FAILED: Move(SlotState.RESTING, Command.GIVE_UP),
    },
    SlotState.ACTIVATING: {
        SlotEvent.LOADED: Move(SlotState.SOAKING, Command.WATCH),
        SlotEvent.CRASHED: Move(SlotState.ACTIVATING, Command.ACTIVATE),
        SlotEvent.FAILED: Move(SlotState.RESTING, Command.REVERT),
        SlotEvent.RECALLED: Move(SlotState.RESTING, Command.REVERT),
        SlotEvent.WITHDRAWN: Move(SlotState.RESTING, Command.CLEAR),
    },
    SlotState.SOAKING: {
        SlotEvent.SOAKED: Move(SlotState.RESTING, Command.CONFIRM),
        SlotEvent.CRASHED: Move(SlotState.ACTIVATING, Command.ACTIVATE),
        SlotEvent.FAILED: Move(SlotState.RESTING, Command.REVERT),
        SlotEvent.RECALLED: Move(SlotState.RESTING, Command.REVERT),
        SlotEvent.WITHDRAWN: Move(SlotState.RESTING, Command.CLEAR),
    },
}


class IllegalMoveError(Exception):
    """An event came in a state that has no row for it: a fault in the worker, never in the world."""


def transition(state: SlotState, event: SlotEvent) -> Move:
    """Return the one legal move; IllegalMoveError where the table has none."""
    move = TRANSITIONS[state].get(event)
    if move is None:
        raise IllegalMoveError(f"a slot that is {state} cannot be {event}")
    return move


@dataclass(frozen=True)
class Wish:
    """What an assignment asks of a slot, next to what the slot has. Manifests are named by their sha256."""

    wanted: str | None
    """The assigned manifest; None for an empty slot."""
    confirmed: str | None
    """The manifest that was confirmed last."""
    candidate: str | None
    """The manifest being worked on."""
    refused: bool
    """This device has refused the wanted manifest before."""


def wish_event(state: SlotState, wish: Wish) -> SlotEvent | None:
    """Return what the assignment means to the slot now; None where there is nothing to do, or not yet.

    A slot on trial takes no other manifest until the trial is decided, because the confirmed manifest is then the
    only way back; it may always go back (RAUC's rule: no update while unconfirmed).
    """
    if wish.wanted is None:
        return SlotEvent.WITHDRAWN if wish.confirmed or wish.candidate else None
    if wish.wanted == wish.candidate:
        return None
    stays = wish.wanted == wish.confirmed or wish.refused
    if state is SlotState.RESTING:
        return None if stays else SlotEvent.ASSIGNED
    if state in {SlotState.FETCHING, SlotState.READY}:
        return SlotEvent.RECALLED if stays else SlotEvent.ASSIGNED
    return SlotEvent.RECALLED if wish.wanted == wish.confirmed else None


class TrialFound(StrEnum):
    """What the journal says of a trial after a start."""

    NONE = "none"
    OPEN = "open"
    """Begun fewer than BOOTS_MAX times."""
    SPENT = "spent"
    """Begun BOOTS_MAX times and never decided."""


class Found(StrEnum):
    """What is on disk under a manifest's name."""

    ABSENT = "absent"
    INTACT = "intact"
    """Every file has the signed length and hash."""
    DAMAGED = "damaged"


class Recovery(StrEnum):
    """How a slot goes on after a start."""

    REST = "rest"
    """Nothing was active: nothing to do."""
    LOAD = "load"
    """Load the active manifest, which is confirmed."""
    RESUME_TRIAL = "resume_trial"
    """Count one more boot, load the candidate and begin the soak again."""
    DROP_TRIAL = "drop_trial"
    """The candidate's bytes are damaged: back to the confirmed manifest, without refusing; it may be fetched again."""
    REFUSE_TRIAL = "refuse_trial"
    """The candidate took the device down too often: back to the confirmed manifest, and refuse it."""
    EMPTY = "empty"
    """Nothing intact is left: forget it, the next assignment fetches it again."""
    REFUSE_AND_EMPTY = "refuse_and_empty"
    """As REFUSE_TRIAL, with nothing to go back to."""


@dataclass(frozen=True)
class SlotFound:
    """What a start finds of one slot. Without a trial, active and confirmed are the same manifest."""

    trial: TrialFound
    active: Found
    confirmed: Found


_ACTIVE_ALONE = {
    Found.ABSENT: Recovery.REST,
    Found.INTACT: Recovery.LOAD,
    Found.DAMAGED: Recovery.EMPTY,
}
_BACK_OR_EMPTY = {
    Found.ABSENT: Recovery.EMPTY,
    Found.INTACT: Recovery.DROP_TRIAL,
    Found.DAMAGED: Recovery.EMPTY,
}
_REFUSE = {
    Found.ABSENT: Recovery.REFUSE_AND_EMPTY,
    Found.INTACT: Recovery.REFUSE_TRIAL,
    Found.DAMAGED: Recovery.REFUSE_AND_EMPTY,
}
RECOVERY: dict[SlotFound, Recovery] = {
    **{
        SlotFound(TrialFound.NONE, active, confirmed): action
        for active, action in _ACTIVE_ALONE.items()
        for confirmed in Found
    },
    **{SlotFound(TrialFound.OPEN, Found.INTACT, confirmed): Recovery.RESUME_TRIAL for confirmed in Found},
    **{
        SlotFound(TrialFound.OPEN, active, confirmed): action
        for active in (Found.ABSENT, Found.DAMAGED)
        for confirmed, action in _BACK_OR_EMPTY.items()
    },
    **{
        SlotFound(TrialFound.SPENT, active, confirmed): action
        for active in Found
        for confirmed, action in _REFUSE.items()
    },
}
"""Every combination has exactly one continuation."""
