"""Create a rollout: check it against the fleet, place the stages' cut-offs, start it or propose it.

Where released versions need two persons (`two_persons`), a rollout of one waits for another person. One of a version
that is not released starts, for devices on the channel `dev`: a later release does not turn it into more.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from controller.domain.catalog import ModelVersion, PublishedVariant
from controller.domain.compatibility import Incompatible, select_variant
from controller.domain.errors import Conflict, InvalidInput
from controller.domain.fleet import Device, DeviceGroup
from controller.domain.gates import GatePolicy
from controller.domain.ids import PREFIXES, DeviceId, GroupId, RolloutId, VersionId
from controller.domain.operators import two_persons_needed
from controller.domain.planner import waits_for_approval
from controller.domain.rollout import OPEN_STATES, Rollout, RolloutState
from controller.domain.stages import cut_stages, parse_shares, position
from controller.domain.variant_rules import VariantRules, rules_for
from controller.store import catalog, groups, rollouts, variant_rules
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.variants import published_variants
from controller.use_cases.identity import new_id
from controller.use_cases.two_persons import refuse_to_replace_approved_pin


@dataclass(frozen=True)
class RolloutRequest:
    """What an operator asks for; `stages` are cumulative percentages."""

    model: str
    version: int
    group: str
    stages: Sequence[float]
    gate: GatePolicy


@dataclass(frozen=True)
class RolloutPreview:
    """What the rollout will be, and whom it cannot reach."""

    rollout: Rollout
    incompatible: dict[str, int]
    """How many devices are left out, by reason."""


def create_rollout(
    database: Database,
    request: RolloutRequest,
    *,
    now: datetime,
    validate_only: bool = False,
    two_persons: bool = False,
    actor: str = "operator",
    token_id: str = "",
) -> RolloutPreview:
    """Write the rollout and start it, or only say what it would be.

    InvalidInput: bad stages, a group that matches no device or only devices that cannot run the version.
    Conflict: the version is not ready, or another open rollout of the model has a device in common.
    Forbidden(E_TWO_PERSON): one person alone would move a pin that two have decided.
    """
    shares = parse_shares(request.stages)
    with database.writing() as tx:
        version = catalog.version_numbered(tx, request.model, request.version)
        group = groups.group_named(tx, request.group)
        published = _published(tx, version)
        devices = list(groups.matching_devices(tx, group))
        able, incompatible = _split(devices, published, _rules_of(tx, version))
        if not able:
            raise _nobody(request, devices, incompatible)
        _refuse_overlap(tx, version, group, devices)
        released = any(variant.released for variant in published)
        is_proposal = two_persons_needed(released=released, single_operator=not two_persons)
        if two_persons and not is_proposal:
            refuse_to_replace_approved_pin(tx, version, group)
        rollout = _rollout(tx, version, group, able, shares, request.gate, now)
        rollout = replace(
            rollout,
            state=RolloutState.PROPOSED if is_proposal else RolloutState.RUNNING,
            proposed_by=actor,
            proposed_with=token_id,
            dev_only=two_persons and not is_proposal,
        )
        preview = RolloutPreview(rollout, incompatible)
        if not validate_only:
            _write(tx, preview, request, actor=actor, now=now)
    return preview


def _rollout(
    tx: Transaction,
    version: ModelVersion,
    group: DeviceGroup,
    able: dict[DeviceId, Device],
    shares: Sequence[float],
    gate: GatePolicy,
    now: datetime,
) -> Rollout:
    rollout_id = RolloutId(new_id(PREFIXES[RolloutId]))
    return Rollout(
        id=rollout_id,
        model_id=version.model_id,
        model=version.model,
        group_id=group.id,
        from_version=_version_to_go_back_to(tx, version, able),
        to_version=version.id,
        state=RolloutState.RUNNING,
        stages=cut_stages(shares, (position(rollout_id, device) for device in able)),
        stage=0,
        gate=gate,
        generation=1,
        created_at=now,
        state_since=now,
    )


def _write(tx: Transaction, preview: RolloutPreview, request: RolloutRequest, *, actor: str, now: datetime) -> None:
    rollout = preview.rollout
    is_proposal = rollout.state is RolloutState.PROPOSED
    begins = waits_for_approval(rollout) if is_proposal else f"stage 1 of {len(rollout.stages)} begins"
    rollouts.insert_rollout(tx, rollout, begins)
    kind = "rollout.proposed" if is_proposal else "rollout.created"
    devices = rollout.stages[-1].devices
    told = f"{request.model} version {request.version} to group {request.group}: {devices} devices"
    add_event(tx, now, actor, kind, rollout.id, told)
    asked = {"model": request.model, "version": request.version, "group": request.group, "devices": devices}
    record_audit(tx, now, actor, kind, rollout.id, asked)
    record_change(tx, now)


def _published(tx: Transaction, version: ModelVersion) -> tuple[PublishedVariant, ...]:
    published = published_variants(tx, [version.id]).get(version.id, ())
    if not published:
        raise Conflict(
            f"{version.model} version {version.number} has no published variant; wait until one is ready",
            code="version_not_ready",
        )
    return published


def _rules_of(tx: Transaction, version: ModelVersion) -> Callable[[Device], VariantRules]:
    rules = [rule for rule in variant_rules.all_rules(tx) if rule.model == version.model]
    known = groups.all_groups(tx) if rules else {}

    def of(device: Device) -> VariantRules:
        return rules_for(rules, version.model, {group.id for group in known.values() if group.matches(device)})

    return of


def _split(
    devices: Iterable[Device], published: tuple[PublishedVariant, ...], rules_of: Callable[[Device], VariantRules]
) -> tuple[dict[DeviceId, Device], dict[str, int]]:
    able, reasons = {}, Counter[str]()
    for device in devices:
        can_unseal = device.encryption_key is not None
        found = select_variant(device.profile, published, rules_of(device), can_unseal=can_unseal)
        if isinstance(found, Incompatible):
            reasons.update(found.reasons)
        else:
            able[device.id] = device
    return able, dict(reasons)


def _nobody(request: RolloutRequest, devices: Sequence[Device], reasons: dict[str, int]) -> InvalidInput:
    if not devices:
        return InvalidInput(
            f"the group {request.group} matches no device; see `edgefleet device list` for names and labels",
            code="group_matches_nothing",
            field="/group",
        )
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
    return InvalidInput(
        f"none of the {len(devices)} devices of group {request.group} can run it: {told}",
        code="nobody_compatible",
        field="/version",
    )


def _refuse_overlap(tx: Transaction, version: ModelVersion, group: DeviceGroup, devices: Sequence[Device]) -> None:
    open_ones = [r for r in rollouts.rollouts_in(tx, OPEN_STATES) if r.model_id == version.model_id]
    known = groups.all_groups(tx) if open_ones else {}
    for other in open_ones:
        theirs = known[other.group_id]
        common = sum(theirs.matches(device) for device in devices)
        if common:
            raise Conflict(
                f"rollout {other.id} of {version.model} on group {theirs.name} is {other.state} and shares {common} "
                f"devices with group {group.name}; wait for its end or abort it",
                code="rollout_overlaps",
            )


def _version_to_go_back_to(tx: Transaction, version: ModelVersion, able: dict[DeviceId, Device]) -> VersionId | None:
    """Return the version that most of the devices are pinned to; None when any of them has no pin."""
    known: dict[GroupId, DeviceGroup] = groups.all_groups(tx)
    pins = sorted((p for p in rollouts.all_pins(tx) if p.model == version.model), key=lambda p: p.decided_at)
    found = Counter[VersionId]()
    for device in able.values():
        matching = [pin.version_id for pin in pins if known[pin.group_id].matches(device)]
        if not matching:
            return None
        found[matching[-1]] += 1
    (most_common, _count) = found.most_common(1)[0]
    return most_common
