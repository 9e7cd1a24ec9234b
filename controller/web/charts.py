"""Charts of rows: sizes, values with intervals, latencies, layers, and what each step bought. Inline SVG, no scripts.

A chart of nothing is an empty text. Rows come in the order in which they are given.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from controller.web import figures
from controller.web.svg import LETTER, WIDTH, Scale, bar, dot, drawing, line, scale_of, shortened, tag, text

NOTHING = Markup("")
LAYERS_MOST = 40
_NAME_LETTERS = 25
_GAP = 8.0
_AXIS = 24.0
_RIGHT = WIDTH - 66.0
"""Where bars end, so that their figures have room."""


@dataclass(frozen=True)
class Sizes:
    """A row of the chart of sizes; None for what is not known yet."""

    name: str
    file_bytes: int | None
    wire_bytes: int | None
    marked: bool = False


@dataclass(frozen=True)
class Value:
    """A value of the metric with the ends of its 95 % interval, and the source's on the same samples."""

    name: str
    value: float
    interval: tuple[float, float] | None
    source_value: float | None
    marked: bool = False


@dataclass(frozen=True)
class Latency:
    """How long one answer takes, in microseconds; all above 0."""

    name: str
    p50_us: float
    p90_us: float
    p99_us: float
    marked: bool = False


@dataclass(frozen=True)
class Layer:
    """A layer's share of zero weights, bits a weight, and relative error; None where it cannot be compared."""

    name: str
    sparsity: float
    bits: int
    error: float | None


def sizes(rows: Sequence[Sizes]) -> Markup:
    """Draw two bars a row, the file's above that of the wire, from 0."""
    known = [size for row in rows for size in (row.file_bytes, row.wire_bytes) if size is not None]
    if not known:
        return NOTHING
    left = _left(row.name for row in rows)
    scale = Scale(0, max(*known, 1), left, _RIGHT)
    drawn = [part for place, row in enumerate(rows) for part in _size_row(row, place * 30.0, scale)]
    smallest = min(
        (row for row in rows if row.wire_bytes is not None), key=lambda row: row.wire_bytes or 0, default=None
    )
    least = f" Fewest bytes travel for {smallest.name}: {figures.size(smallest.wire_bytes)}." if smallest else ""
    return drawing(len(rows) * 30.0, "Sizes", f"Bytes of the file and on the wire of {_named(rows)}.{least}", *drawn)


def _size_row(row: Sizes, top: float, scale: Scale) -> list[Markup]:
    parts = [_name(row.name, scale.start - _GAP, top + 18, marked=row.marked)]
    for size, class_, y in ((row.file_bytes, "file", top + 3), (row.wire_bytes, "wire", top + 15)):
        if size is not None:
            end = scale(size)
            parts += [bar(scale.start, y, end - scale.start, 10.0, class_)]
            parts += [text(end + 5, y + 9, figures.size(size), class_="figure")]
    return parts


def values(rows: Sequence[Value], metric: str | None) -> Markup:
    """Draw a dot with its interval a row, and the source's value on the same samples as a line down the rows."""
    if not rows:
        return NOTHING
    left, height = _left(row.name for row in rows), 24.0
    ends = [end for row in rows for end in (row.value, row.source_value, *(row.interval or ())) if end is not None]
    scale = scale_of(ends, left, _RIGHT)
    drawn = _axis(scale, len(rows) * height, lambda tick: figures.tick_value(tick, metric))
    for place, row in enumerate(rows):
        top, middle = place * height, place * height + height / 2
        drawn.append(_name(row.name, left - _GAP, middle + 4, marked=row.marked))
        if row.source_value is not None:
            drawn.append(line(scale(row.source_value), top, scale(row.source_value), top + height, "source"))
        if row.interval:
            drawn += _whisker(scale(row.interval[0]), scale(row.interval[1]), middle)
        told = f"{row.name}: {figures.value(row.value, metric)}"
        drawn.append(dot(scale(row.value), middle, 4.0, "chosen" if row.marked else "value", told))
        drawn.append(text(_RIGHT + 5, middle + 4, figures.value(row.value, metric), class_="figure"))
    title = f"{(metric or 'value').capitalize()} with 95 % intervals"
    described = "; ".join(f"{row.name} {figures.value(row.value, metric)}" for row in rows)
    return drawing(len(rows) * height + _AXIS, title, f"{described}. The line is the source's value.", *drawn)


def latencies(rows: Sequence[Latency], device_class: str) -> Markup:
    """Draw half, nine tenths and 99 hundredths of the answers a row, on a logarithmic axis."""
    if not rows:
        return NOTHING
    left, height = _left(row.name for row in rows), 24.0
    scale = scale_of([time for row in rows for time in (row.p50_us, row.p99_us)], left, _RIGHT, logarithmic=True)
    drawn = _axis(scale, len(rows) * height, figures.tick_duration)
    for place, row in enumerate(rows):
        middle = place * height + height / 2
        drawn.append(_name(row.name, left - _GAP, middle + 4, marked=row.marked))
        drawn += _whisker(scale(row.p50_us), scale(row.p99_us), middle)
        drawn.append(line(scale(row.p90_us), middle - 5, scale(row.p90_us), middle + 5, "whisker"))
        told = f"{row.name}: {figures.duration(row.p50_us)}, 99 % within {figures.duration(row.p99_us)}"
        drawn.append(dot(scale(row.p50_us), middle, 4.0, "chosen" if row.marked else "value", told))
        drawn.append(text(_RIGHT + 5, middle + 4, figures.duration(row.p50_us), class_="figure"))
    described = "; ".join(f"{row.name} {figures.duration(row.p50_us)}" for row in rows)
    return drawing(len(rows) * height + _AXIS, f"Latency on {device_class}, p50 to p99", described, *drawn)


def layers(rows: Sequence[Layer]) -> Markup:
    """Draw three small bars a row: zeros of 100 %, bits of 32, and the error beside the largest one."""
    if not rows:
        return NOTHING
    shown = rows[:LAYERS_MOST]
    left, height = _left(row.name for row in shown), 18.0
    room = (WIDTH - left) / 3
    worst = max((row.error or 0.0 for row in shown), default=0.0) or 1.0
    heads = ("zero weights", "bits", "error")
    drawn = [text(left + column * room, 11, head, class_="figure") for column, head in enumerate(heads)]
    for place, row in enumerate(shown):
        top = 18 + place * height
        drawn.append(_name(row.name, left - _GAP, top + 11))
        cells = (
            (row.sparsity, figures.share(row.sparsity), "zeros"),
            (row.bits / 32, f"{row.bits}", "bits"),
            ((row.error or 0.0) / worst, figures.small(row.error), "error"),
        )
        for column, (share, words, class_) in enumerate(cells):
            x, full = left + column * room, room - 48
            drawn.append(bar(x, top + 3, full, 8.0, "track"))
            if share > 0:
                drawn.append(bar(x, top + 3, min(share, 1.0) * full, 8.0, class_))
            drawn.append(text(x + full + 4, top + 11, words, class_="figure"))
    rest = f" {len(rows) - len(shown)} more are in the table." if len(rows) > len(shown) else ""
    described = f"Zero weights, bits and error of {_named(shown)}.{rest}"
    return drawing(18 + len(shown) * height, "Layers", described, *drawn)


def bought(stages: Sequence[tuple[str, int]]) -> Markup:
    """Draw how bytes fell or rose from stage to stage: names with the bytes after each, the source first."""
    if len(stages) < 2:
        return NOTHING
    left, height = _left(name for name, _ in stages), 22.0
    scale = Scale(0, max(1, *(size for _, size in stages)), left, _RIGHT)
    drawn: list[Markup] = []
    before = 0
    for place, (name, size) in enumerate(stages):
        top = place * height
        drawn.append(_name(name, left - _GAP, top + 14))
        if place == 0:
            drawn.append(bar(scale(0), top + 5, scale(size) - scale(0), 11.0, "file"))
            told = figures.size(size)
        else:
            low, high = sorted((before, size))
            drawn.append(bar(scale(0), top + 5, scale(low) - scale(0), 11.0, "kept"))
            if high > low:
                class_ = "saved" if size < before else "grown"
                drawn.append(bar(scale(low), top + 5, scale(high) - scale(low), 11.0, class_))
            told = figures.size(size)
        drawn.append(text(scale(max(before, size)) + 5, top + 14, told, class_="figure"))
        before = size
    described = "; ".join(f"{name}: {figures.size(size)}" for name, size in stages)
    return drawing(len(stages) * height, "What each step bought", described, *drawn)


def _axis(scale: Scale, height: float, words: Callable[[float], str]) -> list[Markup]:
    drawn = []
    for tick in scale.ticks():
        drawn.append(line(scale(tick), 0, scale(tick), height, "grid"))
        drawn.append(text(scale(tick), height + 15, words(tick), anchor="middle", class_="figure"))
    return drawn


def _whisker(start: float, end: float, middle: float) -> list[Markup]:
    ends = [line(x, middle - 3, x, middle + 3, "whisker") for x in (start, end)]
    return [line(start, middle, end, middle, "whisker"), *ends]


def _name(name: str, x: float, y: float, *, marked: bool = False) -> Markup:
    shown = shortened(name, _NAME_LETTERS)
    inside = [tag("title", name)] if shown != name else []
    return tag("text", shown, *inside, x=x, y=y, text_anchor="end", class_="marked" if marked else None)


def _left(names: Iterable[str]) -> float:
    return max(len(shortened(name, _NAME_LETTERS)) for name in names) * LETTER + _GAP


def _named(rows: Sequence[Sizes | Layer]) -> str:
    return ", ".join(row.name for row in rows)
