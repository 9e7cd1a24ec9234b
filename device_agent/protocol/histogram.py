"""A latency histogram that merges exactly: exponential buckets, as in Prometheus native histograms.

Bucket i of schema s covers (2**((i-1)/2**s), 2**(i/2**s)] seconds, so the relative error of a quantile is at
most (g-1)/(g+1) with g = 2**(2**-s): 2.2 % for the schema used here. Merging adds counts and loses nothing.
Source: OpenTelemetry data model, "ExponentialHistogram"; Prometheus native histograms specification.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields

SCHEMA = 4
_BUCKETS_PER_E = 2**SCHEMA / math.log(2)
BUCKETS_MAX = 400
"""Twenty-five doublings at schema 4, a microsecond to half a minute; beyond that the report is refused."""
_INDEX_MAX = 480
"""Buckets from a nanosecond to 34 years; quantiles of any index within it are finite."""


@dataclass
class Histogram:
    """Counts of durations in seconds, by exponential bucket."""

    count: int = 0
    total_s: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)

    def add(self, seconds: float) -> None:
        """Count one duration; zero and less fall into the bucket of one nanosecond."""
        index = math.ceil(math.log(max(seconds, 1e-9)) * _BUCKETS_PER_E - 1e-9)
        self.count += 1
        self.total_s += seconds
        self.buckets[index] = self.buckets.get(index, 0) + 1

    def quantile(self, share: float) -> float | None:
        """Return the duration in seconds below which `share` (0 to 1) of them lie; None when empty."""
        if not self.count:
            return None
        wanted, seen = share * self.count, 0
        for index in sorted(self.buckets):
            seen += self.buckets[index]
            if seen >= wanted:
                break
        upper = math.exp(index / _BUCKETS_PER_E)
        # The middle of the bucket in the sense that halves the largest relative error.
        return 2 * upper / (1 + math.exp(1 / _BUCKETS_PER_E))

    def to_json(self) -> dict[str, Any]:
        """Return the wire form: bucket indices and counts in two lists."""
        indices = sorted(self.buckets)
        return {
            "schema": SCHEMA,
            "count": self.count,
            "total_s": round(self.total_s, 9),
            "indices": indices,
            "counts": [self.buckets[index] for index in indices],
        }

    @classmethod
    def read(cls, fields: Fields) -> "Histogram":
        """Read the wire form; lists that do not fit together are malformed."""
        fields.integer("schema", least=SCHEMA, most=SCHEMA)
        count = fields.integer("count")
        indices, counts = fields.raw("indices"), fields.raw("counts")
        if not _fits(indices, counts, count):
            message = f"histogram needs at most {BUCKETS_MAX} indices with positive counts that add up to {count}"
            raise ProtocolError(Code.MALFORMED, message, role="report")
        return cls(count, fields.number("total_s", most=1e12), dict(zip(indices, counts, strict=True)))


def _fits(indices: object, counts: object, count: int) -> bool:
    return (
        isinstance(indices, list)
        and isinstance(counts, list)
        and len(indices) == len(counts) <= BUCKETS_MAX
        and all(isinstance(number, int) for number in (*indices, *counts))
        and len(set(indices)) == len(indices)
        and all(abs(index) <= _INDEX_MAX for index in indices)
        and all(number > 0 for number in counts)
        and sum(counts) == count
    )


def merge(histograms: Iterable[Histogram]) -> Histogram:
    """Return the histogram of all durations together."""
    merged = Histogram()
    for histogram in histograms:
        merged.count += histogram.count
        merged.total_s += histogram.total_s
        for index, count in histogram.buckets.items():
            merged.buckets[index] = merged.buckets.get(index, 0) + count
    return merged
