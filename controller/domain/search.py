"""Searching for a variant that keeps a budget: which recipes to try next, when to stop, and which one to choose.

Recipes are tried in tiers, the cheap ones first. After each tier the search stops if something keeps the budget,
unless it is thorough. Among those that keep it, the one is chosen that is best in what is preferred (bytes on the
wire, unless the budget says otherwise); equal ones by the other figures, then by name.

The Pareto front holds every candidate that no other beats: none is at least as good in value, wire bytes, memory and
latency and better in one (V. Pareto; Deb, "Multi-objective optimization using evolutionary algorithms", 2001).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from controller.domain.errors import InvalidInput

BUDGET_FORM = "size<=200kB,latency<=1ms,memory<=8MB,drop<=1pt,prefer=size"
_BYTES: dict[str, float] = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_UNITS: dict[str, dict[str, float]] = {
    "size": _BYTES,
    "memory": _BYTES,
    "latency": {"us": 1.0, "ms": 1e3, "s": 1e6},
    "drop": {"pt": 0.01, "pts": 0.01, "%": 0.01, "": 1.0},
}
PREFERENCES = ("size", "latency", "memory", "value")
_LIMIT = re.compile(r"(?P<name>[a-z]+)\s*<=\s*(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>[A-Za-z%]*)")


class SearchState(StrEnum):
    """Where a search stands."""

    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Budget:
    """What the variant may cost; None: that does not matter."""

    size: float | None = None
    """Bytes on the wire."""
    latency: float | None = None
    """Microseconds of one answer, the median."""
    memory: float | None = None
    """Bytes of memory at the peak."""
    drop: float | None = None
    """How far the metric may fall below the source's: 0.01 is one point of accuracy."""
    prefer: str = "size"

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**value)


def parse_budget(text: str) -> Budget:
    """Read `size<=200kB,latency<=1ms,drop<=1pt`; InvalidInput(`budget_invalid`) names the part that does not fit."""
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, value = _read_part(part)
        if name in found:
            raise _invalid(part, f"{name} is named twice")
        found[name] = value
    return Budget(**found)


def _read_part(part: str) -> tuple[str, Any]:
    name, equals, choice = part.partition("=")
    if equals and name.strip() == "prefer":
        if choice.strip() not in PREFERENCES:
            raise _invalid(part, f"prefer one of {', '.join(PREFERENCES)}")
        return "prefer", choice.strip()
    limit = _LIMIT.fullmatch(part)
    if limit is None or limit["name"] not in _UNITS:
        raise _invalid(part, f"limits are {', '.join(_UNITS)}")
    units = _UNITS[limit["name"]]
    if limit["unit"] not in units:
        raise _invalid(part, f"units of {limit['name']} are {', '.join(filter(None, units))}")
    return limit["name"], float(limit["number"]) * units[limit["unit"]]


def _invalid(part: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"the budget's part {part!r} does not fit: {why}; write it like {BUDGET_FORM}",
        code="budget_invalid",
        field="/budget",
    )


@dataclass(frozen=True)
class Candidate:
    """A variant as a search sees it. Figures are None until they are known."""

    recipe: str
    final: bool
    """Whether nothing more will become of it."""
    error: str | None = None
    """Why it was refused or failed."""
    value: float | None = None
    drop: float | None = None
    wire_bytes: float | None = None
    memory_bytes: float | None = None
    latency_us: float | None = None
    unfit: str | None = None
    """Why devices of the class cannot run it."""

    @property
    def is_measured(self) -> bool:
        """Tell whether it can be compared."""
        return self.error is None and self.wire_bytes is not None and self.latency_us is not None


@dataclass(frozen=True)
class Plan:
    """What a search does next."""

    ask: tuple[str, ...]
    """Recipes to be tried now."""
    finished: bool
    chosen: str | None
    explanation: str


def plan(budget: Budget, tiers: Sequence[Sequence[str]], candidates: Iterable[Candidate], *, thorough: bool) -> Plan:
    """Decide the next step of a search from what has become of its candidates so far; others do not count."""
    eligible = {name for tier in tiers for name in tier}
    known = {candidate.recipe: candidate for candidate in candidates if candidate.recipe in eligible}
    for number, tier in enumerate(tiers, start=1):
        missing = tuple(name for name in tier if name not in known)
        at_work = [name for name in tier if name in known and not known[name].final]
        place = f"tier {number} of {len(tiers)}"
        if missing:
            return Plan(missing, False, None, f"{place}: trying {', '.join(missing)}")
        if at_work:
            return Plan((), False, None, f"{place}: waiting for {', '.join(at_work)}")
        chosen = choose(budget, known.values())
        if chosen and not thorough:
            left = sum(name not in known for later in tiers[number:] for name in later)
            spared = f"; {left} dearer recipes were not tried" if left else ""
            return Plan((), True, chosen.recipe, f"{why_chosen(budget, chosen, known.values())}{spared}")
    chosen = choose(budget, known.values())
    if chosen:
        return Plan((), True, chosen.recipe, why_chosen(budget, chosen, known.values()))
    return Plan((), True, None, nearest_miss(budget, known.values()))


def choose(budget: Budget, candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the best candidate that keeps the budget, None when there is none."""
    keeping = [candidate for candidate in candidates if candidate.is_measured and not excess(budget, candidate)]
    return min(keeping, key=lambda candidate: _rank(budget.prefer, candidate), default=None)


def pareto_front(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats, the fewest bytes on the wire first."""
    measured = [candidate for candidate in candidates if candidate.is_measured and candidate.unfit is None]
    front = [one for one in measured if not any(_beats(other, one) for other in measured)]
    return sorted(front, key=lambda one: _rank("size", one))


def excess(budget: Budget, candidate: Candidate) -> tuple[str, ...]:
    """Return in words where a measured candidate exceeds the budget; empty when it keeps it."""
    found = [candidate.unfit] if candidate.unfit else []
    for name, limit, value in _limits(budget, candidate):
        if value > limit * (1 + 1e-9) + 1e-12:
            found.append(f"{name} {_amount(name, value)} of {_amount(name, limit)}")
    return tuple(found)


def why_chosen(budget: Budget, chosen: Candidate, candidates: Iterable[Candidate]) -> str:
    """Return the reason for a choice, with its figures."""
    tried = [candidate for candidate in candidates if candidate.final]
    keeping = sum(candidate.is_measured and not excess(budget, candidate) for candidate in tried)
    figures = [
        f"{_amount('size', chosen.wire_bytes or 0)} on the wire",
        f"{_amount('latency', chosen.latency_us or 0)} an answer",
        f"{_amount('memory', chosen.memory_bytes or 0)} of memory",
    ]
    if chosen.drop is not None:
        figures.append(f"{chosen.drop * 100:.2f} points lost")
    best = {"size": "smallest on the wire", "value": "most accurate", "latency": "fastest", "memory": "lightest"}
    among = f"{best[budget.prefer]} of {keeping} that keep the budget, {len(tried)} tried"
    return f"{chosen.recipe}: {', '.join(figures)}; {among}"


def nearest_miss(budget: Budget, candidates: Iterable[Candidate]) -> str:
    """Return which measured candidate came closest, and by what it misses the budget."""
    measured = [candidate for candidate in candidates if candidate.is_measured]
    if not measured:
        return "nothing keeps the budget: no candidate could be made and measured; see their errors"
    nearest = min(measured, key=lambda one: (len(excess(budget, one)), _overshoot(budget, one), one.recipe))
    return f"nothing keeps the budget; closest is {nearest.recipe}: {'; '.join(excess(budget, nearest))}"


def _limits(budget: Budget, candidate: Candidate) -> list[tuple[str, float, float]]:
    pairs = (
        ("size", budget.size, candidate.wire_bytes),
        ("latency", budget.latency, candidate.latency_us),
        ("memory", budget.memory, candidate.memory_bytes),
        ("drop", budget.drop, candidate.drop),
    )
    return [(name, limit, value) for name, limit, value in pairs if limit is not None and value is not None]


def _overshoot(budget: Budget, candidate: Candidate) -> float:
    return max((value / limit if limit else value for _, limit, value in _limits(budget, candidate)), default=0.0)


def _figures(candidate: Candidate) -> dict[str, float]:
    return {
        "size": candidate.wire_bytes or 0.0,
        "latency": candidate.latency_us or 0.0,
        "memory": candidate.memory_bytes or 0.0,
        # Against its own source, because not every candidate was judged on the same rows.
        "value": -(candidate.value or 0.0) if candidate.drop is None else candidate.drop,
    }


def _rank(prefer: str, candidate: Candidate) -> tuple[Any, ...]:
    figures = _figures(candidate)
    return (figures.pop(prefer), *figures.values(), candidate.recipe)


def _beats(one: Candidate, other: Candidate) -> bool:
    pairs = list(zip(_figures(one).values(), _figures(other).values(), strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _amount(name: str, value: float) -> str:
    if name == "drop":
        return f"{value * 100:.2f} points"
    units = {"latency": ((1e6, "s"), (1e3, "ms"), (1.0, "us"))}.get(name, ((1e6, "MB"), (1e3, "kB"), (1.0, "B")))
    scale, unit = next(((scale, unit) for scale, unit in units if value >= scale), units[-1])
    return f"{value / scale:.3g} {unit}"
