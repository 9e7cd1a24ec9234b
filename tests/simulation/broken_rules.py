"""Controllers that break one rule each, to show that the simulation would notice.

Each is the real use case with one thing wrong around it: a policy that is not the one in force, a report that loses a
field, a step that is done twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, update

from controller.domain.assignments import OutcomeState
from controller.domain.desired_state import Pin, Policy
from controller.domain.ids import DeviceId
from controller.domain.planner import Plan
from controller.domain.rollout import OPEN_STATES, Rollout, RolloutEvent, RolloutState
from controller.store import rollouts, tables
from controller.store.database import Database
from controller.store.policy import PolicySnapshot
from controller.trust.director import Director
from controller.use_cases.advance_rollout import advance_rollouts, apply_event
from controller.use_cases.follow_changes import read_policy
from controller.use_cases.issue_assignments import CurrentAssignments, issue_assignments
from controller.use_cases.record_reports import DeviceBatch, Receipt, record_reports
from device_agent.protocol.messages import LifecycleItem, LifecycleState, ReportBatch
from tests.simulation.use_cases import UseCases
from tests.support.fleet import START

NEVER_OUTDATED = 2**60
"""A sequence that no change ever reaches: whoever holds a policy up to there does not read it again."""


def with_open_gates() -> UseCases:
    """Give a rollout's version to every device from the first stage on."""
    return _issuing_under(rollouts=lambda one: replace(one, stage=len(one.stages) - 1))


def without_pauses() -> UseCases:
    """Give the version of a paused rollout like that of a running one."""
    return _issuing_under(rollouts=lambda one: _taken_for(RolloutState.RUNNING, one, RolloutState.PAUSED))


def without_approvals() -> UseCases:
    """Give the version of a proposed rollout like that of a running one."""
    return _issuing_under(rollouts=lambda one: _taken_for(RolloutState.RUNNING, one, RolloutState.PROPOSED))


def without_aborts() -> UseCases:
    """Go on giving the version of a rollout that is being aborted to those who have it already."""
    return _issuing_under(rollouts=lambda one: _taken_for(RolloutState.PAUSED, one, RolloutState.REVERTING))


def pinning_the_newest() -> UseCases:
    """Take the newest version that there is anything about for the pinned one."""
    return _issuing_under(pins=lambda one, policy: replace(one, version_id=max(policy.variants)))


def forgetting_refusals() -> UseCases:
    """Record every report as if the device would take the manifest again."""
    return _recording(lambda item: replace(item, refused=False))


def believing_failures() -> UseCases:
    """Record every failure as a success."""
    failed, healthy = LifecycleState.FAILED, LifecycleState.HEALTHY
    return _recording(lambda item: replace(item, state=healthy) if item.state is failed else item)


def taking_slots_for_empty() -> UseCases:
    """Record every report as if the slot ran nothing."""
    return _recording(lambda item: replace(item, active=None))


def losing_reports() -> UseCases:
    """Acknowledge reports without recording those of a device whose turn it is to be forgotten."""

    def record(database: Database, batches: Sequence[DeviceBatch], *, now: datetime) -> list[Receipt]:
        kept = [one for one in batches if int(one[0].rpartition("_")[2]) % 4]
        record_reports(database, kept, now=now)
        return [Receipt.APPLIED] * len(batches)

    return UseCases(record_reports=record)


def on_a_clock_that_runs_backwards() -> UseCases:
    """Count assignments by a clock that falls, without looking at the counter before."""

    def issue(
        database: Database, director: Director, ids: Sequence[DeviceId], known: object, *, poll_s: float, now: datetime
    ) -> CurrentAssignments:
        with database.writing() as tx:
            tx.execute(delete(tables.assignment).where(tables.assignment.c.device_id.in_(ids)))
        return issue_assignments(database, director, ids, None, poll_s=poll_s, now=START - (now - START))

    return UseCases(issue_assignments=issue)


def silencing_the_healthy() -> UseCases:
    """Mark every outcome silent whose deadline has passed, also those that were decided in time."""

    def mark(database: Database, *, now: datetime, outcomes_max: int) -> int:
        overdue = update(tables.outcome).where(tables.outcome.c.silent_at <= now)
        with database.writing() as tx:
            return tx.execute(overdue.values(state=OutcomeState.SILENT)).rowcount

    return UseCases(mark_silent=mark)


def never_silencing() -> UseCases:
    """Wait for ever for devices that took an assignment and say nothing."""
    return UseCases(mark_silent=lambda *_, **__: 0)


def never_advancing() -> UseCases:
    """Leave every rollout where it is."""
    return UseCases(advance_rollouts=lambda *_, **__: 0)


def deciding_twice() -> UseCases:
    """Let two workers abort a rollout on the same reading of it."""

    def advance(database: Database, *, now: datetime) -> int:
        with database.reading() as tx:
            read_before = rollouts.rollouts_in(tx, OPEN_STATES)
        changed = advance_rollouts(database, now=now)
        with database.writing() as tx:
            moved = {r.id for r in read_before if rollouts.rollout_by_id(tx, r.id)[0].generation > r.generation}
            for rollout in (one for one in read_before if one.id in moved and one.state is RolloutState.RUNNING):
                apply_event(tx, rollout, Plan(RolloutEvent.GATE_FAILED, "too late"), actor="planner", now=now)
        return changed

    return UseCases(advance_rollouts=advance)


def _issuing_under(
    rollouts: Callable[[Rollout], Rollout] = lambda one: one,
    pins: Callable[[Pin, Policy], Pin] = lambda one, _: one,
) -> UseCases:
    """Issue assignments under a policy in which every rollout and every pin is changed."""

    def issue(database: Database, director: Director, ids: Any, known: object, **rest: Any) -> CurrentAssignments:
        policy = read_policy(database).policy
        wrong = replace(
            policy,
            rollouts=tuple(rollouts(one) for one in policy.rollouts),
            pins=tuple(pins(one, policy) for one in policy.pins),
        )
        return issue_assignments(database, director, ids, PolicySnapshot(wrong, NEVER_OUTDATED), **rest)

    return UseCases(issue_assignments=issue)


def _taken_for(state: RolloutState, rollout: Rollout, really: RolloutState) -> Rollout:
    return replace(rollout, state=state) if rollout.state is really else rollout


def _recording(changed: Callable[[LifecycleItem], LifecycleItem]) -> UseCases:
    """Record reports of which every item about a slot's life is changed."""

    def of(batch: ReportBatch) -> ReportBatch:
        items = (changed(item) if isinstance(item, LifecycleItem) else item for item in batch.items)
        return replace(batch, items=tuple(items))

    def record(database: Database, batches: Sequence[DeviceBatch], *, now: datetime) -> list[Receipt]:
        return record_reports(database, [(device_id, of(batch)) for device_id, batch in batches], now=now)

    return UseCases(record_reports=record)
