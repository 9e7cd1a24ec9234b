"""One look at everything that the controller has written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from controller.domain.assignments import OutcomeState
from controller.domain.desired_state import Pin
from controller.domain.gates import OutcomeCounts
from controller.domain.ids import DeviceId, RolloutId, VersionId
from controller.domain.rollout import Rollout, RolloutState
from controller.store import rollouts, tables
from controller.store.database import Database, Transaction
from tests.simulation.virtual_device import SLOT

BEGINNINGS = {"created": RolloutState.RUNNING, "proposed": RolloutState.PROPOSED}
"""What begins a rollout's history, and the state that it leads to; everything else is an event of its table."""

_outcome, _assignment, _event, _slot = tables.outcome, tables.assignment, tables.event, tables.device_slot
# Made once: the simulation runs them tens of thousands of times.
_OUTCOMES = select(
    _outcome.c.device_id,
    _outcome.c.counter,
    _outcome.c.rollout_id,
    _outcome.c.stage,
    _outcome.c.manifest_sha256,
    _outcome.c.state,
    _outcome.c.silent_at,
)
_ASSIGNMENTS = select(_assignment.c.device_id, _assignment.c.counter, _assignment.c.slots)
_RUNNING = select(_slot.c.device_id, _slot.c.manifest_sha256)
_HISTORIES = select(_event.c.subject, _event.c.kind).where(_event.c.kind.startswith("rollout.")).order_by(_event.c.id)


class OutcomeKey(NamedTuple):
    """Which outcome: counters are unique for a device."""

    device_id: DeviceId
    counter: int


class Outcome(NamedTuple):
    """One row of outcomes."""

    rollout_id: RolloutId | None
    stage: int | None
    manifest: str | None
    state: OutcomeState
    silent_at: datetime


class Assigned(NamedTuple):
    """What a device was assigned last."""

    counter: int
    manifest: str | None


@dataclass(frozen=True)
class Observation:
    """Everything that the invariants speak of, at one moment."""

    now: datetime
    rollouts: Mapping[RolloutId, Rollout]
    histories: Mapping[RolloutId, tuple[str, ...]]
    """The events of each rollout, oldest first."""
    outcomes: Mapping[OutcomeKey, Outcome]
    assigned: Mapping[DeviceId, Assigned]
    running: Mapping[DeviceId, str | None]
    """Which manifest each device's slot is known to run."""
    pins: tuple[Pin, ...]
    versions: Mapping[str, VersionId]
    """The version that each manifest belongs to."""
    counts: Mapping[RolloutId, OutcomeCounts] = field(default_factory=dict)
    """What the gate of each rollout reads. Counted at the end alone, because it takes as long as all the rest."""


def observe(database: Database, versions: Mapping[str, VersionId], now: datetime) -> Observation:
    """Read everything but the counts in one transaction."""
    with database.reading() as tx:
        known = {rollout.id: rollout for rollout in rollouts.rollouts_in(tx, RolloutState)}
        return Observation(
            now=now,
            rollouts=known,
            histories=_histories(tx, known),
            outcomes={
                OutcomeKey(row[0], row[1]): Outcome(row[2], row[3], row[4], OutcomeState(row[5]), row[6])
                for row in tx.execute(_OUTCOMES)
            },
            assigned={
                DeviceId(row.device_id): Assigned(row.counter, (row.slots.get(SLOT) or {}).get("sha256"))
                for row in tx.execute(_ASSIGNMENTS)
            },
            running={DeviceId(row.device_id): row.manifest_sha256 for row in tx.execute(_RUNNING)},
            pins=rollouts.all_pins(tx),
            versions=versions,
        )


def count_outcomes(database: Database, seen: Observation) -> Observation:
    """Return what was seen together with the counts of every rollout."""
    with database.reading() as tx:
        counts = {rollout_id: rollouts.count_outcomes(tx, rollout_id) for rollout_id in seen.rollouts}
    return replace(seen, counts=counts)


def _histories(tx: Transaction, known: Mapping[RolloutId, Rollout]) -> dict[RolloutId, tuple[str, ...]]:
    found: dict[RolloutId, list[str]] = {rollout_id: [] for rollout_id in known}
    for row in tx.execute(_HISTORIES):
        found[row.subject].append(row.kind.removeprefix("rollout."))
    return {rollout_id: tuple(kinds) for rollout_id, kinds in found.items()}
