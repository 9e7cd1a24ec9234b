"""The gate of a stage: advance, hold or abort, decided from counts of outcomes.

A silent device (it took the assignment and its deadline passed without a word) counts as a failure. A device
that has not fetched its assignment is in neither count: it holds the stage open until enough others are
healthy. Missing evidence never passes.
"""

import math
from dataclasses import dataclass

from controller.domain.errors import InvalidInput


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
        for name in ("success_share", "failure_share"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InvalidInput(f"{name} is {value:g}; expected a share from 0 to 1", field=f"/gate/{name}")
        if self.success_share + self.failure_share > 1 + 1e-9:
            raise InvalidInput(
                f"success_share {self.success_share:g} and failure_share {self.failure_share:g} add up to more "
                "than 1: a stage could neither pass nor abort; lower one of them",
                field="/gate/success_share",
            )
        if self.soak_s < 0 or self.silent_after_s <= self.soak_s:
            raise InvalidInput(
                f"silent_after_s is {self.silent_after_s:g} and soak_s {self.soak_s:g}; a device must have longer "
                "than its soak to answer, and neither may be negative",
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
    needed = max(math.ceil(policy.success_share * admitted - 1e-9) - counts.healthy, 0)
    if needed:
        return Hold(f"{counts.healthy} of {admitted} devices are healthy; {needed} more are needed", needed)
    return Advance(f"{counts.healthy} of {admitted} devices are healthy")


def tolerated(policy: GatePolicy, admitted: int) -> int:
    """Return how many of the admitted devices may be lost."""
    return math.floor(policy.failure_share * admitted + 1e-9)
