"""Which variant a device gets, why that one, and why it gets none.

 1. What the operators forbid is left out. Where they pin variants that the version has, everything else is: a pin
    is strict, and a device that the pinned variants do not fit gets none of the version.
 2. What does not fit is left out: by the profile, because it did not run when it was measured for the class, or
    because it is sealed and the device has no key that it could be opened with.
 3. Of the others the quickest wins, if all of them were measured for the device's class. Within EQUAL_SHARE of the
    quickest all count as equal, for measurements are not finer than that; then the fewest bytes on the wire decide,
    and then the name. If any was not measured, the precision that the profile names first comes before the bytes.

Nothing else counts, so equal devices get equal variants. Latencies of one class are compared under one factor: how
much slower the class is than the controller does not tell two variants apart, however often it was learnt anew
between their publications.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from controller.domain.catalog import PublishedVariant
from controller.domain.variant_rules import NO_RULES, VariantRules
from device_agent.protocol.channels import Channel
from device_agent.protocol.profile import DeviceProfile, incompatibilities

EQUAL_SHARE = 1.1


@dataclass(frozen=True)
class Selected:
    """The variant that the device shall run."""

    variant: PublishedVariant
    reason: str
    """Why it is the best, with the figures, and what comes next."""
    passed_over: tuple[str, ...] = ()
    """Why others could not be chosen at all."""


@dataclass(frozen=True)
class Incompatible:
    """No variant may be given; every candidate is named with its reasons."""

    reasons: tuple[str, ...]


def select_variant(
    profile: DeviceProfile,
    variants: Iterable[PublishedVariant],
    rules: VariantRules = NO_RULES,
    *,
    can_unseal: bool = True,
) -> Selected | Incompatible:
    """Choose the best variant that the profile can run and the rules allow.

    `can_unseal` tells whether the device has an encryption key.
    """
    return _select(profile, tuple(variants), rules, can_unseal)


@lru_cache(maxsize=1024)
def _select(
    profile: DeviceProfile, candidates: tuple[PublishedVariant, ...], rules: VariantRules, can_unseal: bool
) -> Selected | Incompatible:
    # Every poll asks after a change of the policy, and a fleet has few profiles: each choice is put into words once.
    pinned = rules.pinned.intersection(variant.name for variant in candidates)
    fitting, passed_over = [], []
    for variant in candidates:
        reasons = _rules_against(variant, pinned, rules) or _misfits(variant, profile)
        if variant.content_key and not can_unseal:
            reasons = (*reasons, "is sealed, and this device has no encryption key")
        if reasons:
            passed_over.append(f"variant {variant.name} {'; '.join(reasons)}")
        else:
            fitting.append(variant)
    if not fitting:
        return Incompatible(tuple(passed_over) or ("no variant of this version is published",))
    if rules.pinned and not pinned:
        passed_over.append(f"this version has none of the pinned variants: {_names(rules.pinned)}")
    estimates = _estimates(fitting, profile.name)
    best, reason = _by_latency(fitting, estimates, profile) if estimates else _by_precision(fitting, profile)
    return Selected(best, reason, tuple(passed_over))


def _rules_against(variant: PublishedVariant, pinned: frozenset[str], rules: VariantRules) -> tuple[str, ...]:
    if variant.name in rules.forbidden:
        return ("is forbidden for a group of this device",)
    if pinned and variant.name not in pinned:
        return (f"gives way to what is pinned for a group of this device: {_names(pinned)}",)
    return ()


def _misfits(variant: PublishedVariant, profile: DeviceProfile) -> tuple[str, ...]:
    found = incompatibilities(variant.runtime, profile)
    if profile.channel is Channel.PROD and not variant.released:
        found = (*found, "is not released, and the device takes released versions only")
    if variant.hardware and profile.name not in variant.hardware:
        found = (*found, f"is released for {', '.join(variant.hardware)} alone, and this is a {profile.name}")
    cost = variant.costs.get(profile.name)
    if cost is None:
        return found
    if not cost.fits:
        return (*found, f"did not run as a {profile.name}: it {cost.reason}")
    # Measured for devices with more memory, it has shown nothing about one with less.
    least_known = cost.memory_bytes is not None and cost.memory_bytes <= profile.memory_bytes
    if not least_known and cost.peak_bytes is not None and cost.peak_bytes > profile.memory_bytes:
        return (
            *found,
            f"was measured to need {cost.peak_bytes} bytes of memory; the profile has {profile.memory_bytes}",
        )
    return found


def _estimates(fitting: Sequence[PublishedVariant], device_class: str) -> dict[str, float]:
    """Return what one request takes the class by variant, in microseconds; empty unless all were measured for it."""
    costs = {variant.name: variant.costs.get(device_class) for variant in fitting}
    measured = {name: cost.p50_us for name, cost in costs.items() if cost and cost.p50_us is not None}
    if len(measured) < len(fitting):
        return {}
    # Ids rise with the time at which variants are made: the newest knows the class best.
    newest = max(fitting, key=lambda variant: variant.id).costs[device_class]
    return {name: p50_us * newest.factor for name, p50_us in measured.items()}


def _by_latency(
    fitting: Sequence[PublishedVariant], estimates: dict[str, float], profile: DeviceProfile
) -> tuple[PublishedVariant, str]:
    limit_us = min(estimates.values()) * EQUAL_SHARE

    def rank(variant: PublishedVariant) -> tuple[float, int, str]:
        estimate_us = estimates[variant.name]
        return (0.0 if estimate_us <= limit_us else estimate_us, variant.wire_bytes, variant.name)

    best, *others = sorted(fitting, key=rank)
    reason = f"{best.name}: {_ms(estimates[best.name])} for {profile.name}, {_size(best.wire_bytes)}"
    if not others:
        return best, f"{reason}; nothing else may be given"
    following = others[0]
    took, size = _ms(estimates[following.name]), _size(following.wire_bytes)
    if estimates[following.name] <= limit_us:
        return best, f"{reason}; {following.name} is as quick ({took}) and no smaller ({size})"
    return best, f"{reason}; next best {following.name}: {took}, {size}"


def _by_precision(fitting: Sequence[PublishedVariant], profile: DeviceProfile) -> tuple[PublishedVariant, str]:
    order = {precision: rank for rank, precision in enumerate(profile.precisions)}
    last = len(order)
    best = min(fitting, key=lambda v: (order.get(v.runtime.precision, last), v.wire_bytes, v.name))
    unmeasured = _names(variant.name for variant in fitting if profile.name not in variant.costs)
    precisions = ", ".join(profile.precisions)
    return best, (
        f"{best.name}: by the precisions of {profile.name} ({precisions}), {_size(best.wire_bytes)}; "
        f"not measured for {profile.name}: {unmeasured}"
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.3g} ms"


def _size(size_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} GB"
