"""What must hold whatever happens: one function for each rule, which yields a sentence for every breach.

Each compares two looks at the database, taken before and after a step, and asks the devices themselves. While other
processes may act within a step, a rule speaks only of what was so before and after it.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

from controller.domain.assignments import UNDECIDED, OutcomeState
from controller.domain.ids import DeviceId, VersionId
from controller.domain.rollout import OPEN_STATES, TRANSITIONS, Rollout, RolloutEvent, RolloutState
from controller.domain.stages import position
from tests.simulation.api_process import DEAF_AFTER
from tests.simulation.observation import BEGINNINGS, Assigned, Observation, Outcome, OutcomeKey
from tests.simulation.virtual_device import VirtualDevice
from tests.simulation.worker import GAP_MAX_S

Devices = Mapping[DeviceId, VirtualDevice]
Invariant = Callable[[Observation, Observation, Devices], Iterator[str]]

OPEN_MAX = timedelta(days=5)
"""By when every rollout has ended: a few stages, each with its soak, its deadline for silence and a few pauses."""
NO_WORKER_MAX = timedelta(seconds=2 * GAP_MAX_S)
"""How long the workers may leave something undone that is due: both rest, and the first sweep may be cut off."""
HEARSAY = DEAF_AFTER + timedelta(minutes=2)
"""How long a controller process may answer from what it knew before a change, its clock being off as well."""
WITHDRAWN = (RolloutState.REVERTING, RolloutState.ABORTED)


def no_stage_exceeds_its_cut_off(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """Nobody is given a rollout's version from above the cut-off of the stage that it stands in."""
    for key, outcome in _new_outcomes(before, after):
        if outcome.rollout_id and outcome.stage is not None:
            rollout = after.rollouts[outcome.rollout_id]
            place = position(rollout.id, key.device_id)
            if place >= rollout.stages[outcome.stage].cutoff or outcome.stage > rollout.stage:
                yield f"{key.device_id} at {place} took {rollout.id} in stage {outcome.stage}: {rollout.stages}"


def nothing_is_assigned_without_a_source(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """A version is assigned because of a pin to it, or of a rollout to it that includes the device."""
    for device_id, assigned in _newly_assigned(before, after):
        version = after.versions.get(assigned.manifest or "")
        sources = [r for look in (before, after) for r in look.rollouts.values() if _gives(r, version, device_id)]
        pinned = any(pin.version_id == version for look in (before, after) for pin in look.pins)
        if version and not sources and not pinned:
            yield f"{device_id} was assigned {version}, to which no pin and no rollout moves it"


def no_refused_manifest_is_assigned(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """A device that has asked since its refusal was acknowledged is not assigned what it has refused."""
    for device in devices.values():
        assigned = after.assigned.get(device.id)
        known_since = device.refusals_acknowledged.get(assigned.manifest or "") if assigned else None
        if known_since and device.heard_at and device.heard_at > known_since + HEARSAY:
            yield f"{device.id} is assigned {assigned}, refused since {known_since}; it asked at {device.heard_at}"


def only_a_running_rollout_is_given(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """Paused, reverting or ended, a rollout gives its version to nobody new."""
    for key, outcome in _new_outcomes(before, after):
        rollout = before.rollouts.get(outcome.rollout_id) if outcome.rollout_id else None
        stands = rollout and after.rollouts[rollout.id].generation == rollout.generation
        if rollout and stands and rollout.state is not RolloutState.RUNNING:
            yield f"{key.device_id} took {rollout.id}, which is {rollout.state}"


def counters_rise(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """A device's counter never falls, and another content has a higher one; no device rejects what it is sent."""
    for device_id, assigned in _newly_assigned(before, after):
        earlier = before.assigned.get(device_id)
        if earlier and assigned.counter <= earlier.counter:
            yield f"{device_id} went from {earlier} to {assigned}"
    for device in devices.values():
        yield from (f"{device.id} rejected an assignment: {why}" for why in device.rejections)


def what_is_decided_stays_decided(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """An outcome that a device has decided never becomes undecided, and none disappears."""
    for key, earlier in before.outcomes.items():
        now = after.outcomes.get(key)
        if now is None or (earlier.state not in UNDECIDED and now.state in UNDECIDED):
            yield f"the outcome of {key.device_id} under {key.counter} went from {earlier} to {now}"


def histories_follow_the_table(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """A rollout's events lead by the table, one by one, to the state and stage it is in: nothing is decided twice."""
    for rollout in after.rollouts.values():
        history = after.histories[rollout.id]
        if history != before.histories.get(rollout.id):
            yield from _breaches_of_the_table(rollout, history)


def every_rollout_ends(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """No rollout stays open for ever, and one that reverts gives its devices no longer than it promised."""
    for rollout in after.rollouts.values():
        if rollout.state in OPEN_STATES and after.now - rollout.created_at > OPEN_MAX:
            yield f"{rollout.id} has been open since {rollout.created_at}, and is {rollout.state}"
        promised = timedelta(seconds=rollout.gate.silent_after_s) + NO_WORKER_MAX
        if rollout.state is RolloutState.REVERTING and after.now - rollout.state_since > promised:
            yield f"{rollout.id} has been reverting since {rollout.state_since}"


def nobody_is_waited_for_in_vain(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """An outcome whose deadline is long past is not awaited any more."""
    for key, outcome in after.outcomes.items():
        overdue = after.now - outcome.silent_at
        if outcome.state is OutcomeState.TAKEN and overdue > NO_WORKER_MAX:
            yield f"{key.device_id} has been due for {overdue} under {key.counter}"


def whoever_asks_leaves_an_aborted_version(before: Observation, after: Observation, devices: Devices) -> Iterator[str]:
    """A device that has asked since the last decision is not told to run a version that was aborted."""
    aborted = aborted_versions(after)
    decided = [rollout.state_since for rollout in after.rollouts.values()] + [pin.decided_at for pin in after.pins]
    for device in devices.values() if aborted else ():
        if has_refused_every_way_back(device, after):
            continue
        wanted = device.slot.wanted.manifest if device.slot.wanted else None
        asked = device.heard_at is not None and device.heard_at > max(decided) + HEARSAY
        if asked and wanted and after.versions[wanted] in aborted:
            yield f"{device.id} still wants {wanted} of {after.versions[wanted]}, and asked at {device.heard_at}"


AFTER_EVERY_STEP: tuple[Invariant, ...] = (
    no_stage_exceeds_its_cut_off,
    nothing_is_assigned_without_a_source,
    no_refused_manifest_is_assigned,
    only_a_running_rollout_is_given,
    counters_rise,
    what_is_decided_stays_decided,
    histories_follow_the_table,
    every_rollout_ends,
    nobody_is_waited_for_in_vain,
    whoever_asks_leaves_an_aborted_version,
)


def aborted_versions(look: Observation) -> set[VersionId]:
    """Return the versions that were aborted and that no pin and no other rollout moves anyone to."""
    asked_for = {rollout.to_version for rollout in look.rollouts.values() if rollout.state not in WITHDRAWN}
    asked_for |= {pin.version_id for pin in look.pins}
    return {rollout.to_version for rollout in look.rollouts.values()} - asked_for


def has_refused_every_way_back(device: VirtualDevice, look: Observation) -> bool:
    """Tell whether the device has refused a version that is pinned: it keeps what it has, for want of another."""
    refused = {look.versions[manifest] for manifest in device.slot.record.refused}
    return any(pin.version_id in refused for pin in look.pins)


def _new_outcomes(before: Observation, after: Observation) -> Iterator[tuple[OutcomeKey, Outcome]]:
    return ((key, outcome) for key, outcome in after.outcomes.items() if key not in before.outcomes)


def _newly_assigned(before: Observation, after: Observation) -> Iterator[tuple[DeviceId, Assigned]]:
    return ((device_id, now) for device_id, now in after.assigned.items() if now != before.assigned.get(device_id))


def _gives(rollout: Rollout, version: VersionId | None, device_id: DeviceId) -> bool:
    is_open = rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED)
    return is_open and rollout.to_version == version and position(rollout.id, device_id) < rollout.cutoff


def _breaches_of_the_table(rollout: Rollout, history: tuple[str, ...]) -> Iterator[str]:
    if not history or history[0] not in BEGINNINGS:
        yield f"the history of {rollout.id} does not begin with its creation: {history}"
        return
    events = [RolloutEvent(kind) for kind in history[1:]]
    state = BEGINNINGS[history[0]]
    for event in events:
        following = TRANSITIONS[state].get(event)
        if following is None:
            yield f"{rollout.id} was {state} and took {event}: {history}"
            return
        state = following
    stage = events.count(RolloutEvent.STAGE_PASSED)
    if (state, stage, 1 + len(events)) != (rollout.state, rollout.stage, rollout.generation):
        found = f"{rollout.id} is {rollout.state} in stage {rollout.stage}"
        yield f"{found}, its history says {state} in {stage}: {history}"
