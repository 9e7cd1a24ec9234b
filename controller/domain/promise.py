"""The promise: by how much a variant's metric may fall below its source's, and whether measured figures keep it.

A drop is `source value - variant value` on the same samples; every metric is better when it is higher.

    rule point       the measured drop is at most `drop_max`
    rule interval    the upper end of the drop's 95 % interval is at most `drop_max`

The interval comes from a bootstrap, which cannot see what no sample shows: where source and variant score alike on
every sample, its ends are 0 however few samples there were.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from controller.domain.errors import InvalidInput
from device_agent.protocol.fields import Fields

AUTO = "auto"
ACCURACY = "accuracy"
R2 = "r2"
COSINE = "cosine"
METRICS = (ACCURACY, R2, COSINE)
PLUGIN_PREFIX = "plugin:"
"""Before the name of an operator's own metric."""
POINT = "point"
INTERVAL = "interval"
RULES = (POINT, INTERVAL)
METRIC_FIELD = "/promise/metric"
ROUNDING = 1e-9
"""Shares are binary fractions: a drop of exactly the limit must not fail for its last bit."""


@dataclass(frozen=True)
class Promise:
    """What the operator asks of every variant. InvalidInput(`promise_invalid`) for a limit or rule that is none."""

    metric: str = AUTO
    """`auto` takes what fits the evaluation data: accuracy, r2 or cosine."""
    drop_max: float | None = None
    """In the metric's own units: 0.01 of accuracy is one point. None: nothing is promised."""
    rule: str = POINT

    def __post_init__(self) -> None:
        if self.drop_max is not None and not (math.isfinite(self.drop_max) and self.drop_max >= 0):
            told = f"drop_max is {self.drop_max}; expected a number from 0, such as 0.01 for one point of accuracy"
            raise InvalidInput(told, code="promise_invalid", field="/promise/drop_max")
        if self.rule not in RULES:
            told = f"rule is {self.rule!r}; choose from {', '.join(RULES)}"
            raise InvalidInput(told, code="promise_invalid", field="/promise/rule")

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        fields = Fields(value, "promise")
        drop_max = None if fields.raw("drop_max") is None else fields.number("drop_max")
        return cls(fields.text("metric"), drop_max, fields.text("rule"))


def broken(figures: Mapping[str, Any], promise: Promise) -> str | None:
    """Return in words, with the numbers, how the figures break the promise; None when they keep it.

    `figures` is the signed form of an evaluation: `metric`, `value`, `source_value`, `samples`, `drop_ci`. Nothing
    can be promised without evaluation data, unless the promise names a metric: then it is broken. A promise by
    interval is broken where no interval could be given.
    """
    if promise.drop_max is None:
        return None
    metric, value, source_value = (figures.get(name) for name in ("metric", "value", "source_value"))
    if promise.metric not in (AUTO, metric):
        return f"the promise is about {promise.metric}, and the figures are of {metric or 'no metric'}"
    if value is None or source_value is None:
        return None
    drop = source_value - value
    limit = f"the promise is at most {_amount(metric, promise.drop_max)}"
    if promise.rule == POINT:
        return None if drop <= promise.drop_max + ROUNDING else f"{compared(figures)}; {limit}"
    interval = figures.get("drop_ci")
    if interval is None:
        return f"{compared(figures)}; too few for the 95 % interval that the promise goes by"
    if interval[1] <= promise.drop_max + ROUNDING:
        return None
    return f"{compared(figures)}; the interval reaches {_amount(metric, interval[1])}, {limit}"


def compared(figures: Mapping[str, Any]) -> str:
    """Return in words how a variant's value lies to its source's; both must be there.

    Such as: accuracy 0.9675 is 1.25 points below the source's 0.9800 on 400 samples (95 % interval of the drop:
    0.25 to 2.50 points).
    """
    metric, value, source_value = figures["metric"], figures["value"], figures["source_value"]
    drop = source_value - value
    if abs(drop) <= ROUNDING:
        told = f"{metric} {value:.4f} is the source's"
    else:
        side = "below" if drop > 0 else "above"
        told = f"{metric} {value:.4f} is {_number(metric, abs(drop))} {side} the source's {source_value:.4f}"
    return f"{told} on {figures['samples']} samples{_interval(metric, figures.get('drop_ci'))}"


def _interval(metric: str, drop_ci: tuple[float, float] | None) -> str:
    if drop_ci is None:
        return ""
    scale, decimals, unit = _unit(metric)
    ends = " to ".join(f"{end * scale:.{decimals}f}" for end in drop_ci)
    return f" (95 % interval of the drop: {ends}{unit})"


def _number(metric: str, drop: float) -> str:
    scale, decimals, unit = _unit(metric)
    return f"{drop * scale:.{decimals}f}{unit}"


def _amount(metric: str | None, drop: float) -> str:
    scale, _, unit = _unit(metric)
    return f"{drop * scale:.6g}{unit}"


def _unit(metric: str | None) -> tuple[float, int, str]:
    # A share is told in points, anything else in its own units.
    return (100.0, 2, " points") if metric == ACCURACY else (1.0, 4, "")
