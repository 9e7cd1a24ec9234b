"""Pause, resume or abort a rollout: a person's events, through the same table as the planner's."""

from datetime import datetime

from controller.domain.planner import Plan
from controller.domain.rollout import RolloutEvent, RolloutState
from controller.store import rollouts
from controller.store.database import Database
from controller.use_cases.advance_rollout import apply_event

WORDS = {
    RolloutEvent.PAUSE: "paused by {actor}: no further device is given the version",
    RolloutEvent.RESUME: "resumed by {actor}",
    RolloutEvent.ABORT: "aborted by {actor}: devices that took the version go back",
}
"""What each event of a person tells in the explanation until the planner speaks again."""
DONE = {RolloutEvent.PAUSE: "paused", RolloutEvent.RESUME: "resumed", RolloutEvent.ABORT: "aborted"}
REJECTED = "aborted by {actor} before anybody approved it: no device was given the version"


def steer_rollout(
    database: Database, rollout_id: str, event: RolloutEvent, *, now: datetime, actor: str = "operator"
) -> None:
    """Apply a person's event; Conflict when the rollout's state does not allow it."""
    with database.writing() as tx:
        rollout, _ = rollouts.rollout_by_id(tx, rollout_id, lock=True)
        words = REJECTED if rollout.state is RolloutState.PROPOSED else WORDS[event]
        apply_event(tx, rollout, Plan(event, words.format(actor=actor)), actor=actor, now=now, audit=DONE[event])
