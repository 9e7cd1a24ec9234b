"""Facts for the pure decisions: devices, variants, rollouts and policies, ordinary unless a test says otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from controller.domain.catalog import PublishedVariant
from controller.domain.costs import Cost
from controller.domain.desired_state import Pin, Policy
from controller.domain.fleet import Device, DeviceGroup
from controller.domain.gates import GatePolicy
from controller.domain.ids import DeviceId, GroupId, ModelId, PinId, RolloutId, VariantId, VariantRuleId, VersionId
from controller.domain.rollout import Rollout, RolloutState
from controller.domain.stages import POSITION_END, Stage, position
from controller.domain.variant_rules import RuleKind, VariantRule
from device_agent.protocol.manifest import Runtime
from device_agent.protocol.profile import DeviceProfile

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
V1, V2, V3 = VersionId("ve_1"), VersionId("ve_2"), VersionId("ve_3")
EVERYONE = DeviceGroup(GroupId("gr_all"), "all")
NO_COSTS: Mapping[str, Cost] = MappingProxyType({})


def a_profile(**changes: Any) -> DeviceProfile:
    """Return a profile that runs int8 best and fp32 too."""
    ordinary = DeviceProfile("camera", "aarch64", "onnxruntime", "1.32.0", 21, ("int8", "fp32"), 512_000_000)
    return replace(ordinary, **changes)


def a_device(name: str = "cam-1", **changes: Any) -> Device:
    """Return a device of the ordinary profile at the site lyon."""
    return replace(Device(DeviceId(f"dv_{name}"), name, a_profile(), {"site": "lyon"}), **changes)


def a_variant(
    version: VersionId = V1,
    name: str = "int8",
    *,
    wire_bytes: int = 1000,
    costs: Mapping[str, Cost] = NO_COSTS,
    **runtime: Any,
) -> PublishedVariant:
    """Return a published variant that the ordinary profile can run; the manifest is named after it."""
    needs = replace(Runtime("onnxruntime", 17, ("Gemm",), name, 8_000_000), **runtime)
    return PublishedVariant(
        id=VariantId(f"va_{version}_{name}"),
        version_id=version,
        name=name,
        runtime=needs,
        target=f"dev/digits/{version}/{name}/manifest.json",
        release=1,
        manifest_sha256=f"manifest of {version} {name}",
        manifest_bytes=400,
        wire_bytes=wire_bytes,
        costs=costs,
    )


def a_cost(p50_us: float = 1000.0, **changes: Any) -> Cost:
    """Return what was measured of a variant that fits."""
    ordinary = Cost(
        p50_us=p50_us,
        p90_us=p50_us * 2,
        p99_us=p50_us * 3,
        runs=200,
        load_ms=5.0,
        peak_bytes=8_000_000,
        steady_bytes=4_000_000,
        threads=1,
        memory_bytes=512_000_000,
        fits=True,
        reason=None,
        factor=1.0,
        processor="a processor",
    )
    return replace(ordinary, **changes)


def a_rule(
    kind: RuleKind, variant: str = "int8", group: DeviceGroup = EVERYONE, *, model: str = "digits"
) -> VariantRule:
    """Return a rule about a variant of `digits`, for everyone unless a group is given."""
    rule_id = VariantRuleId(f"vr_{kind}_{variant}_{group.name}")
    return VariantRule(rule_id, model, group.id, variant, kind, NOW)


def a_pin(version: VersionId = V1, group: DeviceGroup = EVERYONE, *, age_s: float = 0, model: str = "digits") -> Pin:
    """Return a pin that was decided `age_s` before NOW."""
    decided_at = NOW - timedelta(seconds=age_s)
    return Pin(PinId(f"pi_{model}_{version}_{group.name}"), model, group.id, version, decided_at)


def a_rollout(**changes: Any) -> Rollout:
    """Return a running rollout from version 1 to 2 of `digits` on everyone, in the first of two stages of 5 and 10."""
    ordinary = Rollout(
        id=RolloutId("ro_1"),
        model_id=ModelId("mo_digits"),
        model="digits",
        group_id=EVERYONE.id,
        from_version=V1,
        to_version=V2,
        state=RolloutState.RUNNING,
        stages=(Stage(0.5, POSITION_END // 2, 5), Stage(1.0, POSITION_END, 10)),
        stage=0,
        gate=GatePolicy(success_share=0.8, failure_share=0.2, soak_s=60, silent_after_s=600),
        generation=1,
        created_at=NOW,
        state_since=NOW,
    )
    return replace(ordinary, **changes)


def a_policy(
    *,
    pins: Sequence[Pin] = (),
    rollouts: Sequence[Rollout] = (),
    groups: Sequence[DeviceGroup] = (EVERYONE,),
    variants: Sequence[PublishedVariant] | None = None,
    rules: Sequence[VariantRule] = (),
) -> Policy:
    """Return a policy in which versions 1 to 3 each have an int8 variant, unless the variants are given."""
    published = [a_variant(version) for version in (V1, V2, V3)] if variants is None else variants
    by_version = {v.version_id: tuple(w for w in published if w.version_id == v.version_id) for v in published}
    return Policy({group.id: group for group in groups}, tuple(pins), tuple(rollouts), by_version, tuple(rules))


def device_placed(rollout: Rollout, *, admitted: bool) -> Device:
    """Return a device that the rollout's current stage admits, or one that it does not."""
    devices = (a_device(f"cam-{number}") for number in range(10_000))
    return next(d for d in devices if (position(rollout.id, d.id) < rollout.cutoff) is admitted)
