"""What a variant costs on a class of devices: measured on the controller, corrected by what the devices report.

A class is all devices whose profiles have equal names. The controller measures every variant in a process with the
class's thread count and memory, on its own processor. How much slower the class really is, its factor, is learnt
from the latencies that devices report; measurements made from then on carry it. The costs of a published variant
are frozen, so no later measurement or factor ever moves a fleet.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

REQUESTS_LEAST = 100
"""A class with fewer reported requests keeps the factor that it has."""
REQUESTS_MOST = 10_000
"""Requests of one variant beyond this count no further: a busy model must not outvote all others."""
FACTOR_LEAST, FACTOR_MOST = 0.05, 1000.0
"""Beyond these it is the measurement that is wrong, not the device that is fast or slow."""


@dataclass(frozen=True)
class DeviceClass:
    """Devices with equal profile names, by what a model may use on the least of them."""

    name: str
    threads: int
    memory_bytes: int | None
    """What a model may use at its peak; None where it is not limited."""


CONTROLLER = DeviceClass("controller", threads=1, memory_bytes=None)
"""The built-in class: one thread of the controller itself. Devices whose profile has this name belong to it."""


@dataclass(frozen=True)
class Cost:
    """What one variant costs on one class. Figures are None where the variant did not run to the end."""

    p50_us: float | None
    """Half of the runs of one request took at most this long, in microseconds of the controller's processor."""
    p90_us: float | None
    p99_us: float | None
    runs: int
    load_ms: float | None
    peak_bytes: int | None
    """By how much the process grew at most while the model was loaded and ran."""
    steady_bytes: int | None
    """By how much it had grown after the last run."""
    threads: int
    memory_bytes: int | None
    """The limit that it was measured under; None: without one."""
    fits: bool
    reason: str | None
    """Why it does not fit, with the figures; None when it does."""
    factor: float
    """How many times longer the class takes than the controller, as known when this was measured."""
    processor: str

    def corrected(self, measured_us: float | None) -> float | None:
        """Return a measured duration as the class would take it, in microseconds."""
        return None if measured_us is None else measured_us * self.factor

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**value)


def unfit(device_class: DeviceClass, reason: str, processor: str) -> Cost:
    """Return the cost of a variant that did not run to the end on the class, and why."""
    return Cost(
        p50_us=None,
        p90_us=None,
        p99_us=None,
        runs=0,
        load_ms=None,
        peak_bytes=None,
        steady_bytes=None,
        threads=device_class.threads,
        memory_bytes=device_class.memory_bytes,
        fits=False,
        reason=reason,
        factor=1.0,
        processor=processor,
    )


@dataclass(frozen=True)
class Comparison:
    """One published variant on one class: what was estimated, and what its devices report."""

    estimated_p50_us: float
    """As measured on the controller, before any factor."""
    reported_p50_us: float
    requests: int


@dataclass(frozen=True)
class LearnedFactor:
    """How many times longer a class takes than the controller, and what that was learnt from."""

    factor: float
    variants: int
    requests: int


def learn_factor(comparisons: Iterable[Comparison]) -> LearnedFactor | None:
    """Return the class's factor; None while fewer than REQUESTS_LEAST requests speak of it.

    It is the weighted median of reported over estimated p50, on a logarithmic scale, each variant weighing as many
    requests as it answered, up to REQUESTS_MOST. A median, because one variant that the class runs unusually well
    or badly must not stand for all; where two halves weigh the same, the middle between them counts.
    """
    known = [c for c in comparisons if c.requests > 0 and c.estimated_p50_us > 0 and c.reported_p50_us > 0]
    requests = sum(comparison.requests for comparison in known)
    if requests < REQUESTS_LEAST:
        return None
    middle = _weighted_median(
        [(math.log(c.reported_p50_us / c.estimated_p50_us), min(c.requests, REQUESTS_MOST)) for c in known]
    )
    factor = min(max(math.exp(middle), FACTOR_LEAST), FACTOR_MOST)
    return LearnedFactor(factor, len(known), requests)


def _weighted_median(weighted: Sequence[tuple[float, int]]) -> float:
    ordered = sorted(weighted)
    half, seen = sum(weight for _, weight in ordered) / 2, 0
    for place, (value, weight) in enumerate(ordered):
        seen += weight
        if seen == half:
            return (value + ordered[place + 1][0]) / 2
        if seen > half:
            return value
    raise ValueError("there is no median of nothing")
