"""What must hold when the dust has settled: everything is delivered, every device has asked, nothing goes wrong."""

from collections import Counter
from collections.abc import Callable, Iterator

from controller.domain.assignments import UNDECIDED
from controller.domain.gates import OutcomeCounts
from controller.domain.ids import DeviceId
from controller.domain.observations import DECIDES
from tests.simulation.invariants import Devices, aborted_versions, has_refused_every_way_back
from tests.simulation.observation import Observation, Outcome, OutcomeKey

FinalInvariant = Callable[[Observation, Devices], Iterator[str]]


def every_device_is_at_rest(end: Observation, devices: Devices) -> Iterator[str]:
    """With a good link every device finishes its work and says all it has to say."""
    for device in devices.values():
        if device.character.hears and not device.is_at_rest:
            yield f"{device.id} is {device.slot.state}"


def outcomes_are_what_devices_remember(end: Observation, devices: Devices) -> Iterator[str]:
    """The last word that a device had on its latest assignment of a manifest is what was recorded."""
    for key, outcome in _latest_outcomes(end):
        device = devices[key.device_id]
        words = [item for item in device.spool.said if item.manifest == outcome.manifest and item.state in DECIDES]
        since = [item for item in words if item.counter >= key.counter]
        if device.character.speaks and since and outcome.state != DECIDES[since[-1].state]:
            yield f"{device.id} said {since[-1].state} of {outcome.manifest}, recorded under {key.counter}: {outcome}"
        if not (words and device.character.speaks) and outcome.state not in UNDECIDED:
            yield f"{device.id} never said anything of {outcome.manifest}, yet it is {outcome.state}"


def slots_are_what_devices_run(end: Observation, devices: Devices) -> Iterator[str]:
    """The controller knows what every device runs that can tell it."""
    for device in devices.values():
        active = device.slot.record.active
        if device.character.speaks and active and end.running.get(device.id) != active:
            yield f"{device.id} runs {active}, and is known to run {end.running.get(device.id)}"


def nobody_is_left_on_an_aborted_version(end: Observation, devices: Devices) -> Iterator[str]:
    """Whoever could be reached runs an aborted version no more."""
    aborted = aborted_versions(end)
    for device in devices.values():
        active = device.slot.record.active
        reached = device.character.hears and not has_refused_every_way_back(device, end)
        if reached and active and end.versions[active] in aborted:
            yield f"{device.id} still runs {active} of {end.versions[active]}"


def counts_are_a_recount(end: Observation, devices: Devices) -> Iterator[str]:
    """What a gate reads of a rollout are its devices, each counted once by its latest outcome."""
    for rollout_id, counts in end.counts.items():
        latest: dict[DeviceId, tuple[int, str]] = {}
        for key, outcome in end.outcomes.items():
            if outcome.rollout_id == rollout_id:
                latest[key.device_id] = max(latest.get(key.device_id, (0, "")), (key.counter, str(outcome.state)))
        recount = OutcomeCounts(**Counter(state for _, state in latest.values()))
        if counts != recount:
            yield f"{rollout_id} is counted as {counts}; its devices give {recount}"


AT_THE_END: tuple[FinalInvariant, ...] = (
    every_device_is_at_rest,
    outcomes_are_what_devices_remember,
    slots_are_what_devices_run,
    nobody_is_left_on_an_aborted_version,
    counts_are_a_recount,
)


def _latest_outcomes(end: Observation) -> Iterator[tuple[OutcomeKey, Outcome]]:
    """Return the outcomes that a device's words count for: the newest of each manifest."""
    newest: dict[tuple[DeviceId, str], tuple[OutcomeKey, Outcome]] = {}
    for key, outcome in sorted(end.outcomes.items()):
        if outcome.manifest:
            newest[key.device_id, outcome.manifest] = (key, outcome)
    return iter(newest.values())
