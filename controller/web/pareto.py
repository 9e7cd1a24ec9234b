"""The Pareto chart of a search: bytes on the wire across, value upwards, the larger the dot the slower the answer."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from controller.web import figures
from controller.web.svg import LETTER, WIDTH, Scale, dot, drawing, line, scale_of, shortened, tag, text

HEIGHT = 280.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, WIDTH - 14.0, 14.0, HEIGHT - 40.0
_RADIUS_LEAST, _RADIUS_MOST = 3.5, 11.0
_LETTERS = 26
_LINE = 13.0

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """A measured candidate of a search."""

    name: str
    wire_bytes: float
    value: float
    latency_us: float
    on_front: bool
    chosen: bool


def pareto(points: Sequence[Point], metric: str | None) -> Markup:
    """Draw the candidates with the front joined and the chosen one marked; empty text without points."""
    known = [point for point in points if point.wire_bytes > 0]
    if not known:
        return Markup("")
    across = scale_of([point.wire_bytes for point in known], _LEFT, _RIGHT, margin=0.12, logarithmic=True)
    upwards = scale_of([point.value for point in known], _BOTTOM, _TOP, margin=0.12)
    front = sorted((point for point in known if point.on_front), key=lambda point: (point.wire_bytes, -point.value))
    radii = _radii(known)
    drawn = [*_frame(across, upwards, metric)]
    edge = _edge(front)
    if len(edge) > 1:
        places = " ".join(f"{across(point.wire_bytes):.1f},{upwards(point.value):.1f}" for point in edge)
        drawn.append(tag("polyline", points=places, class_="front"))
    # The large dots first, so that small ones stay visible.
    for point in sorted(known, key=lambda one: -radii[one.name]):
        drawn += _point(point, across, upwards, radii[point.name], metric)
    drawn += _labels(known, across, upwards, radii)
    return drawing(HEIGHT, "Pareto chart", _description(front, known, metric), *drawn)


def _edge(front: Sequence[Point]) -> list[Point]:
    """Return what of the front can be joined in this plane; the rest is on it for its latency or memory."""
    found: list[Point] = []
    for point in front:
        if not found or point.value > found[-1].value:
            found.append(point)
    return found


def _description(front: Sequence[Point], known: Sequence[Point], metric: str | None) -> str:
    told = "; ".join(_told(point, metric) for point in front)
    chosen = next((f" Chosen: {point.name}." for point in known if point.chosen), "")
    return f"{len(front)} of {len(known)} candidates are on the front: {told}.{chosen}"


def _told(point: Point, metric: str | None) -> str:
    return (
        f"{point.name}: {figures.size(point.wire_bytes)}, {figures.value(point.value, metric)}, "
        f"{figures.duration(point.latency_us)}"
    )


def _radii(points: Sequence[Point]) -> dict[str, float]:
    # Areas are what the eye compares.
    slowest = max(point.latency_us for point in points) or 1.0
    room = _RADIUS_MOST - _RADIUS_LEAST
    return {point.name: _RADIUS_LEAST + room * math.sqrt(max(point.latency_us, 0) / slowest) for point in points}


def _frame(across: Scale, upwards: Scale, metric: str | None) -> Iterator[Markup]:
    for tick in across.ticks():
        yield line(across(tick), _TOP, across(tick), _BOTTOM, "grid")
        yield text(across(tick), _BOTTOM + 16, figures.tick_size(tick), anchor="middle", class_="figure")
    for tick in upwards.ticks():
        yield line(_LEFT, upwards(tick), _RIGHT, upwards(tick), "grid")
        words = figures.tick_value(tick, metric)
        yield text(_LEFT - 6, upwards(tick) + 4, words, anchor="end", class_="figure")
    yield text(_RIGHT, HEIGHT - 6, "bytes on the wire, logarithmic", anchor="end", class_="figure")


def _point(point: Point, across: Scale, upwards: Scale, radius: float, metric: str | None) -> list[Markup]:
    x, y = across(point.wire_bytes), upwards(point.value)
    class_ = "chosen" if point.chosen else "on-front" if point.on_front else "beaten"
    ring = [dot(x, y, radius + 4, "ring")] if point.chosen else []
    return [*ring, dot(x, y, radius, class_, _told(point, metric))]


def _labels(points: Sequence[Point], across: Scale, upwards: Scale, radii: dict[str, float]) -> Iterator[Markup]:
    """Name the chosen one and the front, each where it covers neither a name nor a dot; else its dot alone tells."""
    taken = [
        (across(one.wire_bytes) - r, upwards(one.value) - r, across(one.wire_bytes) + r, upwards(one.value) + r)
        for one in points
        for r in [radii[one.name]]
    ]
    for point in sorted(points, key=lambda one: (not one.chosen, not one.on_front, one.wire_bytes)):
        if not (point.chosen or point.on_front):
            break
        name = shortened(point.name, _LETTERS)
        for box in _boxes(across(point.wire_bytes), upwards(point.value), radii[point.name] + 6, len(name) * LETTER):
            if _inside(box) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield text(box[0], box[3] - 3, name, class_="marked" if point.chosen else None)
                break


def _boxes(x: float, y: float, away: float, width: float) -> Iterator[Box]:
    half = _LINE / 2
    yield x + away, y - half, x + away + width, y + half
    yield x - away - width, y - half, x - away, y + half
    for lines in (0, 1, 2):
        for left in (x - width / 2, x, x - width):
            up, down = y - away - lines * _LINE, y + away + lines * _LINE
            yield left, up - _LINE, left + width, up
            yield left, down, left + width, down + _LINE


def _inside(box: Box) -> bool:
    return box[0] >= _LEFT and box[2] <= _RIGHT and box[1] >= 0 and box[3] <= _BOTTOM


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
