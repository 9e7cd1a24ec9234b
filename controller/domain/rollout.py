"""A rollout's states, events and the one table that connects them.

Rules: everything that changes a rollout's state is an event in this table, and whoever changes a state calls
`transition`. Whether an event is due (has the last stage passed?) is the planner's question, never the table's.

    proposed   it waits for another person than its proposer; nobody is given the new version
    running    devices below the current stage's cut-off are assigned the new version
    paused     a person stopped it: no device is given the new version that has not taken it already
    reverting  a gate or a person aborted it: nobody is assigned the new version, and those that run it
               are on their way back
    succeeded, aborted   final
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controller.domain.errors import Conflict
from controller.domain.gates import GatePolicy
from controller.domain.ids import GroupId, ModelId, RolloutId, VersionId
from controller.domain.stages import Stage


class RolloutState(StrEnum):
    """Where a rollout stands."""

    PROPOSED = "proposed"
    RUNNING = "running"
    PAUSED = "paused"
    REVERTING = "reverting"
    SUCCEEDED = "succeeded"
    ABORTED = "aborted"


class RolloutEvent(StrEnum):
    """What may happen to a rollout."""

    APPROVE = "approve"
    STAGE_PASSED = "stage_passed"
    LAST_STAGE_PASSED = "last_stage_passed"
    GATE_FAILED = "gate_failed"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    REVERTED = "reverted"


S, E = RolloutState, RolloutEvent

TRANSITIONS: dict[RolloutState, dict[RolloutEvent, RolloutState]] = {
    # Nobody has taken anything yet, so there is nothing to revert.
    S.PROPOSED: {E.APPROVE: S.RUNNING, E.ABORT: S.ABORTED},
    S.RUNNING: {
        E.STAGE_PASSED: S.RUNNING,
        E.LAST_STAGE_PASSED: S.SUCCEEDED,
        E.GATE_FAILED: S.REVERTING,
        E.PAUSE: S.PAUSED,
        E.ABORT: S.REVERTING,
    },
    # Reports still arrive while a person has paused the rollout, so a gate can fail then too.
    S.PAUSED: {E.RESUME: S.RUNNING, E.GATE_FAILED: S.REVERTING, E.ABORT: S.REVERTING},
    S.REVERTING: {E.REVERTED: S.ABORTED},
    S.SUCCEEDED: {},
    S.ABORTED: {},
}

OPEN_STATES = frozenset(state for state, moves in TRANSITIONS.items() if moves)
"""States that the planner still has to look at."""


def transition(state: RolloutState, event: RolloutEvent) -> RolloutState:
    """Return the state after the event; Conflict, naming what is possible, when the table has no such move."""
    moves = TRANSITIONS[state]
    if event not in moves:
        possible = ", ".join(moves) or "nothing: it has ended"
        raise Conflict(f"the rollout is {state} and cannot {event}; possible: {possible}", code="rollout_state")
    return moves[event]


@dataclass(frozen=True)
class Rollout:
    """The intention to move a group from one version of a model to another, in stages."""

    id: RolloutId
    model_id: ModelId
    model: str
    group_id: GroupId
    from_version: VersionId | None
    to_version: VersionId
    state: RolloutState
    stages: tuple[Stage, ...]
    stage: int
    """Index of the current stage."""
    gate: GatePolicy
    generation: int
    """Counts the changes; a writer that read an older one lost a race."""
    created_at: datetime
    state_since: datetime
    proposed_by: str = "operator"
    proposed_with: str = ""
    """Id of the proposer's token."""
    approved_by: str | None = None
    dev_only: bool = False
    """One person alone decided it where two are needed for released versions: no device on `prod` follows it."""

    @property
    def cutoff(self) -> int:
        """Devices with a position below it are assigned the new version while the rollout runs."""
        return self.stages[self.stage].cutoff
