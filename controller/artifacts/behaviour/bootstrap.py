"""Confidence intervals by the paired bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13).

Rows are drawn with replacement, the same rows for variant and source, so that what they have in common cancels in
the interval of their difference. Only means of columns are needed: a metric is a function of such means.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.artifacts.graph.sessions import Array

RESAMPLES = 2000
LEVEL = 0.95
SEED = 20_240_229
_DRAWS_AT_ONCE = 2**18
"""Bounds the memory to a few megabytes, and fits into a processor's cache."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals at 95 %."""

    value: Interval
    source_value: Interval
    drop: Interval
    """Of `source value - value`."""


def paired_intervals(variant: Array, source: Array, value: Callable[[Array], Array]) -> Intervals | None:
    """Return the intervals of a metric's values and of the drop; None for fewer than two rows.

    `variant` and `source` are float64 [rows, columns], a row for the same sample in both; `value` maps means of
    columns [..., columns] to the metric [...]. Resamples on which the metric has no finite value are left out; None
    when none has one. The same figures on every call.
    """
    if len(variant) < 2:
        return None
    means = _resampled_means(np.concatenate([variant, source], axis=1))
    of_variant, of_source = value(means[:, : variant.shape[1]]), value(means[:, variant.shape[1] :])
    there = np.isfinite(of_variant) & np.isfinite(of_source)
    if not there.any():
        return None
    of_variant, of_source = of_variant[there], of_source[there]
    return Intervals(_interval(of_variant), _interval(of_source), _interval(of_source - of_variant))


def _resampled_means(columns: Array) -> Array:
    """Return the means of RESAMPLES draws of as many rows as there are: [rows, columns] to [RESAMPLES, columns]."""
    rows = len(columns)
    generator = np.random.default_rng(SEED)
    at_once = max(1, _DRAWS_AT_ONCE // rows)
    means = np.empty((RESAMPLES, columns.shape[1]))
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        drawn = generator.integers(0, rows, size=(count, rows)) + rows * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        means[start : start + count] = times.astype(np.float64) @ columns / rows
    return means


def _interval(values: Array) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
