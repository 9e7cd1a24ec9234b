"""What should happen to a rollout next: `plan(snapshot, now)` decides, explains, and does nothing.

The plan is computed from counts, not devices, so it costs the same for any fleet. The same facts plan the same
event, and each event is planned from the facts that the one before it left.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.domain.gates import Abort, Advance, OutcomeCounts, evaluate_gate
from controller.domain.rollout import Rollout, RolloutEvent, RolloutState


@dataclass(frozen=True)
class RolloutSnapshot:
    """Every fact that a decision about one rollout may use, read in one transaction."""

    rollout: Rollout
    counts: OutcomeCounts
    """Over all devices that took this rollout's assignment."""
    not_back: int
    """Devices that took the assignment and have not been seen to run another version since."""


@dataclass(frozen=True)
class Plan:
    """The event that is due, if any, and why the rollout is where it is."""

    event: RolloutEvent | None
    explanation: str


def plan(snapshot: RolloutSnapshot, now: datetime) -> Plan:
    """Decide what is due. `now` is part of the facts: the same snapshot and time give the same plan."""
    match snapshot.rollout.state:
        case RolloutState.PROPOSED:
            return Plan(None, waits_for_approval(snapshot.rollout))
        case RolloutState.RUNNING:
            return _plan_running(snapshot)
        case RolloutState.PAUSED:
            return _plan_paused(snapshot, now)
        case RolloutState.REVERTING:
            return _plan_reverting(snapshot, now)
        case ended:
            return Plan(None, f"{ended}")


def waits_for_approval(rollout: Rollout) -> str:
    """Return what a proposed rollout waits for."""
    how = f"edgefleet rollout approve {rollout.id}"
    return f"proposed by {rollout.proposed_by}: waits until another person approves it ({how})"


def _plan_running(snapshot: RolloutSnapshot) -> Plan:
    rollout = snapshot.rollout
    stage = rollout.stages[rollout.stage]
    place = f"stage {rollout.stage + 1} of {len(rollout.stages)}"
    verdict = evaluate_gate(rollout.gate, snapshot.counts, stage.devices)
    match verdict:
        case Abort():
            return Plan(RolloutEvent.GATE_FAILED, f"{place} failed: {verdict.why}")
        case Advance() if rollout.stage + 1 < len(rollout.stages):
            return Plan(RolloutEvent.STAGE_PASSED, f"{place} passed: {verdict.why}")
        case Advance():
            return Plan(RolloutEvent.LAST_STAGE_PASSED, f"every stage passed: {verdict.why}")
        case _:
            soaking = f"; {snapshot.counts.taken} at work" if snapshot.counts.taken else ""
            return Plan(None, f"{place} waits: {verdict.why}{soaking}")


def _plan_paused(snapshot: RolloutSnapshot, now: datetime) -> Plan:
    rollout = snapshot.rollout
    verdict = evaluate_gate(rollout.gate, snapshot.counts, rollout.stages[rollout.stage].devices)
    if isinstance(verdict, Abort):
        return Plan(RolloutEvent.GATE_FAILED, f"failed while paused: {verdict.why}")
    minutes = (now - rollout.state_since).total_seconds() / 60
    return Plan(None, f"paused by a person {minutes:.0f} minutes ago: no further device is given the version")


def _plan_reverting(snapshot: RolloutSnapshot, now: datetime) -> Plan:
    rollout = snapshot.rollout
    hit = f"{snapshot.counts.lost} hit"
    if not snapshot.not_back:
        return Plan(RolloutEvent.REVERTED, f"aborted: {hit}, and every device is back")
    if now >= rollout.state_since + timedelta(seconds=rollout.gate.silent_after_s):
        # A device that never answers must not keep the rollout open; it reverts whenever it polls again.
        return Plan(RolloutEvent.REVERTED, f"aborted: {hit}, {snapshot.not_back} have not answered since")
    return Plan(None, f"aborting: {hit}; waits for {snapshot.not_back} to go back")
