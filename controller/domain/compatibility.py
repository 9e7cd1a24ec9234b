"""Which variant a device gets, and why it gets none."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.domain.catalog import PublishedVariant
from device_agent.protocol.profile import DeviceProfile, incompatibilities


@dataclass(frozen=True)
class Selected:
    """The variant that the device shall run."""

    variant: PublishedVariant


@dataclass(frozen=True)
class Incompatible:
    """No variant fits; every candidate is named with its reasons."""

    reasons: tuple[str, ...]


def select_variant(profile: DeviceProfile, variants: Iterable[PublishedVariant]) -> Selected | Incompatible:
    """Choose the best variant that the profile can run.

    Best is the precision that the profile names first, then the fewest bytes on the wire, then the name, so
    that equal devices always get equal variants.
    """
    fitting, reasons = [], []
    for variant in variants:
        found = incompatibilities(variant.runtime, profile)
        if found:
            reasons.append(f"variant {variant.name} {'; '.join(found)}")
        else:
            fitting.append(variant)
    if not fitting:
        return Incompatible(tuple(reasons) or ("no variant of this version is published",))
    order = {precision: rank for rank, precision in enumerate(profile.precisions)}
    last = len(order)
    best = min(fitting, key=lambda v: (order.get(v.runtime.precision, last), v.wire_bytes, v.name))
    return Selected(best)
