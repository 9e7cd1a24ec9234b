"""What a device shall run: computed from pins and rollouts whenever it asks, stored nowhere.

For each model, in this order:

 1. A rollout of the model on a group of the device, if it gives the device the new version: it runs and the
    device's position lies below the current cut-off, or it is paused and the device has taken it already.
 2. The newest pin of the model on a group of the device.
 3. Nothing is said, and the device keeps what it runs - except where an aborted rollout had brought the
    device its first version of the model: then the slot shall run nothing.

Where released versions need two persons, devices on the channel `prod` follow nothing that one person decided alone.

Of a version's variants the device gets the best that fits it and that the operators' rules allow (`compatibility`).
A version of which there is none is skipped with its reasons, never forced. So is a version of which the device has
refused a variant: it failed there once, and another try of it is for a person to decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.domain.catalog import PublishedVariant
from controller.domain.compatibility import Incompatible, select_variant
from controller.domain.fleet import Device, DeviceGroup
from controller.domain.ids import GroupId, PinId, RolloutId, VersionId
from controller.domain.rollout import Rollout, RolloutState
from controller.domain.stages import position
from controller.domain.variant_rules import VariantRule, VariantRules, rules_for
from device_agent.protocol.channels import Channel

ONE_PERSON = "was decided by one person, so it is for devices on the channel dev alone"
PIN_SOAK_S = 60.0
"""How long a pinned version soaks on a device unless the pin says otherwise; rollouts bring their own."""


@dataclass(frozen=True)
class Pin:
    """The stable desired state: group G runs model M at version V."""

    id: PinId
    model: str
    group_id: GroupId
    version_id: VersionId
    decided_at: datetime
    soak_s: float = PIN_SOAK_S
    dev_only: bool = False
    """One person alone decided it where two are needed for released versions: no device on `prod` follows it."""


@dataclass(frozen=True)
class Policy:
    """Everything that is decided for the fleet as a whole, as one immutable snapshot.

    `rollouts` holds the open ones, and the aborted ones that had no version to go back to.
    """

    groups: Mapping[GroupId, DeviceGroup] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    variants: Mapping[VersionId, tuple[PublishedVariant, ...]] = field(default_factory=dict)
    variant_rules: tuple[VariantRule, ...] = ()


@dataclass(frozen=True)
class SlotChoice:
    """What one slot shall run; a variant of None means that it shall run nothing."""

    variant: PublishedVariant | None
    reason: str
    soak_s: float
    rollout_id: RolloutId | None = None


@dataclass(frozen=True)
class DesiredState:
    """The device's slots, and for each model the words that explain the choice or its absence."""

    slots: dict[str, SlotChoice]
    explanation: dict[str, tuple[str, ...]]


def desired_state(device: Device, policy: Policy) -> DesiredState:
    """Compute what the device shall run. Pure, and independent of every other device."""
    groups = frozenset(group.id for group in policy.groups.values() if group.matches(device))
    models = sorted({pin.model for pin in policy.pins} | {rollout.model for rollout in policy.rollouts})
    slots, explanation = {}, {}
    for model in models:
        choice, words = _choose(model, device, groups, policy)
        explanation[model] = tuple(words)
        if choice:
            slots[model] = choice
    return DesiredState(slots, explanation)


def gives_new_version(rollout: Rollout, device: Device) -> tuple[bool, str]:
    """Tell whether the rollout brings this device the new version now, and why or why not."""
    name = f"rollout {rollout.id}"
    place = f"stage {rollout.stage + 1} of {len(rollout.stages)}"
    if is_withheld(rollout, device):
        return False, f"{name} {ONE_PERSON}"
    match rollout.state:
        case RolloutState.PROPOSED:
            return False, f"{name} waits for another person than {rollout.proposed_by} to approve it"
        case RolloutState.RUNNING if position(rollout.id, device.id) < rollout.cutoff:
            return True, f"{name}, {place}"
        case RolloutState.RUNNING:
            return False, f"{name} is in {place}, which does not include this device yet"
        case RolloutState.PAUSED if rollout.id in device.took:
            return True, f"{name}, paused after this device had taken it"
        case RolloutState.PAUSED:
            return False, f"{name} is paused before this device took it"
        case state:
            return False, f"{name} is {state}"


def is_withheld(decided: Pin | Rollout, device: Device) -> bool:
    """Tell whether the device must not follow this because one person alone decided it."""
    return decided.dev_only and device.profile.channel is not Channel.DEV


def _choose(
    model: str, device: Device, groups: frozenset[GroupId], policy: Policy
) -> tuple[SlotChoice | None, list[str]]:
    words: list[str] = []
    rules = rules_for(policy.variant_rules, model, groups)
    concerned = [r for r in policy.rollouts if r.model == model and r.group_id in groups]
    for rollout in sorted(concerned, key=lambda r: r.created_at):
        given, why = gives_new_version(rollout, device)
        words.append(why)
        variant = _variant(device, policy.variants.get(rollout.to_version, ()), rules, words) if given else None
        if variant:
            return SlotChoice(variant, why, rollout.gate.soak_s, rollout.id), words
    pins = [pin for pin in policy.pins if pin.model == model and pin.group_id in groups]
    for pin in sorted(pins, key=lambda p: p.decided_at, reverse=True):
        if is_withheld(pin, device):
            words.append(f"pin {pin.id} {ONE_PERSON}")
            continue
        words.append(f"pin {pin.id}")
        variant = _variant(device, policy.variants.get(pin.version_id, ()), rules, words)
        if variant:
            return SlotChoice(variant, f"pin {pin.id}", pin.soak_s), words
    withdrawn = [r for r in concerned if r.state in (RolloutState.REVERTING, RolloutState.ABORTED)]
    if any(rollout.id in device.took for rollout in withdrawn):
        words.append("the rollout that brought the version was aborted, and there is no other to go back to")
        return SlotChoice(None, "aborted without a version before it", 0.0), words
    words.append("nothing is assigned: the device keeps what it runs")
    return None, words


def _variant(
    device: Device, candidates: tuple[PublishedVariant, ...], rules: VariantRules, words: list[str]
) -> PublishedVariant | None:
    refused = [variant.name for variant in candidates if variant.manifest_sha256 in device.refused]
    if refused:
        words.append(f"this device has refused the version's variant {', '.join(refused)}")
        return None
    found = select_variant(device.profile, candidates, rules, can_unseal=device.encryption_key is not None)
    if isinstance(found, Incompatible):
        words.extend(found.reasons)
        return None
    words.extend(found.passed_over)
    words.append(f"variant {found.reason}")
    return found.variant
