"""The gate of a stage: advance, hold or abort, decided from counts of outcomes.

A silent device (it took the assignment and its deadline passed without a word) counts as a failure. A device
that has not fetched its assignment is in neither count: it holds the stage open until enough others are
healthy. Missing evidence never passes.
"""

import math
from dataclasses import dataclass

from controller.domain.errors import InvalidInput

DEADLINE_MAX_S = 30 * 86_400.0
"""A month: longer than any device is meant to be out of reach in mid-rollout."""


@dataclass(frozen=True)
class GatePolicy:
    """What a rollout must show before it goes on."""

    success_share: float = 0.9
    """Share of the devices admitted so far that must be healthy before the next stage."""
    failure_share: float = 0.1
    """Share of the devices admitted so far that may fail or fall silent; beyond it the rollout aborts."""
    soak_s: float = 600.0
    """How long a model must stay healthy on a device before the device counts as healthy."""
    silent_after_s: float = 3600.0
    """How long a device that took the assignment may go without an outcome before it counts as silent."""

    def __post_init__(self) -> None:
        """Refuse a policy under which a stage could neither pass nor abort."""
        if not 0 < self.success_share <= 1:
            raise InvalidInput(
                f"success_share is {self.success_share:g}; expected above 0, up to 1: no evidence cannot pass",
                field="/gate/success_share",
            )
        if not 0 <= self.failure_share <= 1:
            raise InvalidInput(
                f"failure_share is {self.failure_share:g}; expected a share from 0 to 1", field="/gate/failure_share"
            )
        if self.success_share + self.failure_share > 1 + 1e-9:
            raise InvalidInput(
                f"success_share {self.success_share:g} and failure_share {self.failure_share:g} add up to more "
                "than 1: a stage could neither pass nor abort; lower one of them",
                field="/gate/success_share",
            )
        if not 0 <= self.soak_s < self.silent_after_s <= DEADLINE_MAX_S:
            raise InvalidInput(
                f"silent_after_s is {self.silent_after_s:g} and soak_s {self.soak_s:g}; a device needs longer than its "
                f"soak to answer, at most {DEADLINE_MAX_S:g} s, and neither may be negative",
                field="/gate/silent_after_s",
            )


@dataclass(frozen=True)
class OutcomeCounts:
    """Outcomes of the devices that took a rollout's assignment."""

    taken: int = 0
    """Took the assignment and are still at work."""
    healthy: int = 0
    failed: int = 0
    silent: int = 0

    @property
    def lost(self) -> int:
        """Failed and silent together."""
        return self.failed + self.silent


@dataclass(frozen=True)
class Advance:
    """The evidence suffices."""

    why: str


@dataclass(frozen=True)
class Hold:
    """Neither enough success nor too much failure."""

    why: str
    healthy_needed: int


@dataclass(frozen=True)
class Abort:
    """More devices were lost than the policy tolerates."""

    why: str


Verdict = Advance | Hold | Abort


def evaluate_gate(policy: GatePolicy, counts: OutcomeCounts, admitted: int) -> Verdict:
    """Decide for the devices admitted so far. Pure: the same counts give the same verdict."""
    if counts.lost > tolerated(policy, admitted):
        return Abort(
            f"{counts.failed} failed and {counts.silent} fell silent of {admitted} devices; "
            f"{tolerated(policy, admitted)} are tolerated"
        )
    # At least one: a stage without devices has shown nothing.
    needed = max(math.ceil(policy.success_share * admitted - 1e-9), 1) - counts.healthy
    if needed > 0:
        return Hold(f"{counts.healthy} of {admitted} devices healthy, {needed} more needed", needed)
    return Advance(f"{counts.healthy} of {admitted} devices healthy")


def tolerated(policy: GatePolicy, admitted: int) -> int:
    """Return how many of the admitted devices may be lost."""
    return math.floor(policy.failure_share * admitted + 1e-9)
