"""One look at everything that the controller has written, and at what the devices know of themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from controller.domain.assignments import OutcomeState
from controller.domain.desired_state import Pin
from controller.domain.ids import DeviceId, RolloutId, VersionId
from controller.domain.rollout import Rollout, RolloutState
from controller.store import rollouts, tables
from controller.store.database import Database, Transaction
from tests.simulation.virtual_device import SLOT, VirtualDevice

CREATED = "created"
"""The event that begins a rollout's history; every other one is an event of its table."""
_outcome, _assignment, _event, _slot = tables.outcome, tables.assignment, tables.event, tables.device_slot


class OutcomeKey(NamedTuple):
    """Which outcome: counters are unique for a device."""

    device_id: DeviceId
    counter: int


@dataclass(frozen=True)
class Outcome:
    """One row of outcomes."""

    rollout_id: RolloutId | None
    stage: int | None
    manifest: str | None
    state: OutcomeState


@dataclass(frozen=True)
class Assigned:
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
    refused: Mapping[DeviceId, frozenset[str]]
    """What the controller has told each device to know as refused."""


def observe(
    database: Database,
    devices: Mapping[DeviceId, VirtualDevice],
    versions: Mapping[str, VersionId],
    now: datetime,
) -> Observation:
    """Read everything in one transaction."""
    with database.reading() as tx:
        known = {rollout.id: rollout for rollout in rollouts.rollouts_in(tx, RolloutState)}
        return Observation(
            now=now,
            rollouts=known,
            histories=_histories(tx, known),
            outcomes=_outcomes(tx),
            assigned={
                DeviceId(row.device_id): Assigned(row.counter, (row.slots.get(SLOT) or {}).get("sha256"))
                for row in tx.execute(select(_assignment.c.device_id, _assignment.c.counter, _assignment.c.slots))
            },
            running={
                DeviceId(row.device_id): row.manifest_sha256
                for row in tx.execute(select(_slot.c.device_id, _slot.c.manifest_sha256))
            },
            pins=rollouts.all_pins(tx),
            versions=versions,
            refused={device.id: device.refusals_acknowledged for device in devices.values()},
        )


def _outcomes(tx: Transaction) -> dict[OutcomeKey, Outcome]:
    columns = (_outcome.c.rollout_id, _outcome.c.stage, _outcome.c.manifest_sha256, _outcome.c.state)
    return {
        OutcomeKey(row.device_id, row.counter): Outcome(
            row.rollout_id, row.stage, row.manifest_sha256, OutcomeState(row.state)
        )
        for row in tx.execute(select(_outcome.c.device_id, _outcome.c.counter, *columns))
    }


def _histories(tx: Transaction, known: Mapping[RolloutId, Rollout]) -> dict[RolloutId, tuple[str, ...]]:
    found: dict[RolloutId, list[str]] = {rollout_id: [] for rollout_id in known}
    query = select(_event.c.subject, _event.c.kind).where(_event.c.kind.startswith("rollout."))
    for row in tx.execute(query.order_by(_event.c.id)):
        found[row.subject].append(row.kind.removeprefix("rollout."))
    return {rollout_id: tuple(kinds) for rollout_id, kinds in found.items()}
