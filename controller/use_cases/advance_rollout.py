"""Advance rollouts: read the facts, plan, write the one event that is due. Runs every sweep, anywhere, any number.

A run that finds nothing due writes nothing, unless the words of the explanation have changed.
"""

from dataclasses import replace
from datetime import datetime

from controller.domain.ids import PREFIXES, PinId, RolloutId
from controller.domain.planner import Plan, RolloutSnapshot, plan
from controller.domain.rollout import OPEN_STATES, Rollout, RolloutEvent, RolloutState, transition
from controller.store import rollouts
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event, record_change
from controller.use_cases.identity import new_id


def advance_rollouts(database: Database, *, now: datetime) -> int:
    """Advance every open rollout that has something due; return how many changed."""
    with database.reading() as tx:
        due = [rollout.id for rollout in rollouts.rollouts_in(tx, OPEN_STATES) if _has_something_due(tx, rollout, now)]
    return sum(advance_rollout(database, rollout_id, now=now) for rollout_id in due)


def advance_rollout(database: Database, rollout_id: RolloutId, *, now: datetime) -> bool:
    """Lock one rollout, plan on fresh facts, write what is due; True when its state or stage changed."""
    with database.writing() as tx:
        rollout, explanation = rollouts.rollout_by_id(tx, rollout_id, lock=True)
        decided = plan(_snapshot(tx, rollout), now)
        if decided.event is None:
            if decided.explanation != explanation:
                rollouts.save_rollout(tx, rollout, decided.explanation)
            return False
        apply_event(tx, rollout, decided, actor="planner", now=now)
        return True


def apply_event(
    tx: Transaction, rollout: Rollout, decided: Plan, *, actor: str, now: datetime, audit: str | None = None
) -> Rollout:
    """Move the rollout by the table, write it and its history, and tell the fleet's pollers.

    `audit` says for the audit log what was done (`approved`), where a person decided it.
    """
    event = decided.event
    if event is None:
        raise ValueError("there is no event to apply")
    moved = replace(
        rollout,
        state=transition(rollout.state, event),
        stage=rollout.stage + (event is RolloutEvent.STAGE_PASSED),
        generation=rollout.generation + 1,
        state_since=now,
        approved_by=actor if event is RolloutEvent.APPROVE else rollout.approved_by,
    )
    rollouts.save_rollout(tx, moved, decided.explanation)
    add_event(tx, now, actor, f"rollout.{event}", rollout.id, decided.explanation)
    if moved.state is RolloutState.SUCCEEDED:
        pin_id = PinId(new_id(PREFIXES[PinId]))
        where = (rollout.model_id, rollout.group_id)
        soak_s, dev_only = rollout.gate.soak_s, rollout.dev_only
        rollouts.put_pin(tx, pin_id, *where, rollout.to_version, soak_s=soak_s, dev_only=dev_only, now=now)
    if audit:
        record_audit(tx, now, actor, f"rollout.{audit}", rollout.id, {"model": rollout.model, "state": moved.state})
    record_change(tx, now)
    return moved


def _has_something_due(tx: Transaction, rollout: Rollout, now: datetime) -> bool:
    _, explanation = rollouts.rollout_by_id(tx, rollout.id)
    decided = plan(_snapshot(tx, rollout), now)
    return decided.event is not None or decided.explanation != explanation


def _snapshot(tx: Transaction, rollout: Rollout) -> RolloutSnapshot:
    reverting = rollout.state is RolloutState.REVERTING
    not_back = rollouts.count_not_back(tx, rollout) if reverting else 0
    return RolloutSnapshot(rollout, rollouts.count_outcomes(tx, rollout.id), not_back)
