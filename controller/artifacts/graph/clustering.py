"""One-dimensional k-means: the few values that stand for many with the least squared error.

Lloyd's iteration (Lloyd, "Least squares quantization in PCM", 1982) on sorted numbers: a cluster is an interval, so
one round costs a binary search for every border, and sums come from running totals. It begins at quantiles, which
serve the crowded middle, and again where the interval with the largest error was always split at its mean, which
serves the tails; the better result is taken. No chance is involved: the same numbers give the same centres.
"""

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

ROUNDS_MAX = 200


def cluster(values: npt.NDArray[np.floating], entries: int) -> Doubles:
    """Return at most `entries` centres, ascending and distinct, for numbers of any shape.

    Numbers that take no more than `entries` values are their own centres.
    """
    distinct, counts = np.unique(values.reshape(-1).astype(np.float64), return_counts=True)
    if len(distinct) <= entries:
        return distinct
    numbers = _Numbers(distinct, _totals(counts), _totals(counts * distinct), _totals(counts * distinct**2))
    quantiles = np.quantile(distinct, (np.arange(entries) + 0.5) / entries)
    found = [_converged(numbers, start) for start in (_split(numbers, entries), quantiles)]
    return min(found, key=numbers.error)


def nearest(values: npt.NDArray[np.floating], centres: Doubles) -> npt.NDArray[np.intp]:
    """Return the index of the nearest centre, in the shape of the numbers; the lower one halfway between two."""
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values)


@dataclass(frozen=True)
class _Numbers:
    """Distinct numbers, ascending, with running totals of how often they occur, of their sum and of their squares."""

    distinct: Doubles
    counts: Doubles
    sums: Doubles
    squares: Doubles

    def edges(self, centres: Doubles) -> npt.NDArray[np.intp]:
        """Return where the interval of each centre begins, and where the last one ends."""
        borders = np.searchsorted(self.distinct, (centres[1:] + centres[:-1]) / 2, side="right")
        return np.concatenate([[0], borders, [len(self.distinct)]])

    def mean(self, start: int, end: int) -> float:
        """Return the mean of an interval that is not empty."""
        return float((self.sums[end] - self.sums[start]) / (self.counts[end] - self.counts[start]))

    def spread(self, start: int, end: int) -> float:
        """Return the squared error of an interval around its mean; below zero for one that cannot be split."""
        if end - start < 2:
            return -1.0
        total = self.sums[end] - self.sums[start]
        around = self.squares[end] - self.squares[start] - total * self.mean(start, end)
        return max(0.0, float(around))

    def error(self, centres: Doubles) -> float:
        """Return the squared error of all numbers around their nearest centres."""
        gaps = self.distinct - centres[nearest(self.distinct, centres)]
        return float((np.diff(self.counts) * gaps**2).sum())


def _totals(amounts: npt.NDArray[np.number]) -> Doubles:
    return np.concatenate([[0.0], np.cumsum(amounts, dtype=np.float64)])


def _split(numbers: _Numbers, entries: int) -> Doubles:
    """Return the means of the intervals that are left when the one with the largest error was split again and again."""
    whole = len(numbers.distinct)
    intervals = [(-numbers.spread(0, whole), 0, whole)]
    while len(intervals) < entries:
        _, start, end = heapq.heappop(intervals)
        within = numbers.distinct[start:end]
        middle = start + int(np.searchsorted(within, numbers.mean(start, end), side="right"))
        middle = min(max(middle, start + 1), end - 1)
        for part in ((start, middle), (middle, end)):
            heapq.heappush(intervals, (-numbers.spread(*part), *part))
    return np.array([numbers.mean(start, end) for _, start, end in sorted(intervals, key=lambda found: found[1])])


def _converged(numbers: _Numbers, centres: Doubles) -> Doubles:
    for _ in range(ROUNDS_MAX):
        edges = numbers.edges(centres)
        sizes = np.diff(numbers.counts[edges])
        # An interval without numbers is dropped; the others move to their mean.
        filled = sizes > 0
        moved = np.unique(np.diff(numbers.sums[edges])[filled] / sizes[filled])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres
