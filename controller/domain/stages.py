"""Stages as cut-offs on a stable hash, so that advancing one is one row for ten devices or ten million.

Every (rollout, device) pair has a position that anyone can recompute. A stage is the set of devices whose
position lies below its cut-off. The cut-offs are chosen when the rollout is made, so that each stage holds
exactly its share of the devices known then; devices that enrol later fall under the same cut-offs.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.domain.errors import InvalidInput
from controller.domain.ids import DeviceId, RolloutId

POSITION_END = 2**53
"""Positions are below this: whole numbers that JSON and every database keep exactly."""


@dataclass(frozen=True)
class Stage:
    """A cumulative share of the rollout's devices."""

    share: float
    """Cumulative, in (0, 1]; the last stage's is 1."""
    cutoff: int
    """Devices with a position below it belong to this stage or an earlier one."""
    devices: int
    """How many known devices the cut-off admits, earlier stages included."""


def position(rollout_id: RolloutId, device_id: DeviceId) -> int:
    """Return where the device stands in the rollout: uniform over [0, POSITION_END), stable for ever."""
    digest = hashlib.sha256(f"{rollout_id}:{device_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 11


def parse_shares(percentages: Sequence[float]) -> tuple[float, ...]:
    """Check cumulative percentages as an operator writes them: rising, and ending at 100."""
    field = "/stages"
    if not percentages:
        raise InvalidInput("stages is empty; give cumulative percentages such as 10, 50, 100", field=field)
    shown = ", ".join(f"{percentage:g}" for percentage in percentages)
    if any(not 0 < percentage <= 100 for percentage in percentages):
        raise InvalidInput(f"stages are {shown}; each must be above 0 and at most 100", field=field)
    if any(later <= earlier for earlier, later in itertools.pairwise(percentages)):
        raise InvalidInput(f"stages are {shown}; they are cumulative, so each must be above the last", field=field)
    if percentages[-1] != 100:
        raise InvalidInput(f"stages are {shown}; the last must be 100, or devices are left behind", field=field)
    return tuple(percentage / 100 for percentage in percentages)


def cut_stages(shares: Sequence[float], positions: Iterable[int]) -> tuple[Stage, ...]:
    """Place the cut-offs so that each stage admits its share of the positions, rounded up to whole devices.

    ValueError without any position: a rollout for nobody has no stages.
    """
    ordered = sorted(positions)
    if not ordered:
        raise ValueError("stages need at least one device")
    stages = []
    for share in shares:
        admitted = min(math.ceil(share * len(ordered) - 1e-9), len(ordered))
        whole = share >= 1
        cutoff = POSITION_END if whole else ordered[admitted - 1] + 1
        stages.append(Stage(share, cutoff, len(ordered) if whole else admitted))
    return tuple(stages)
