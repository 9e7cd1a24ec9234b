"""Drawing: elements of SVG as safe text, scales, and ticks that people can read.

Nothing has a `style` attribute, which the pages' content security policy forbids: colours come from classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 420
"""Every chart is so many units wide; height follows from what it shows."""
LETTER = 6.8
"""About how wide a letter of a chart's text is, in the same units."""
_TICKS_MOST = 5


def tag(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; `class_` stands for `class`, other underscores for hyphens, None for no attribute."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, inside)


def drawing(height: float, title: str, description: str, *children: object) -> Markup:
    """Return a chart: an image with a name and a description for people who do not see it."""
    named = (tag("title", title), tag("desc", description))
    return tag("svg", *named, *children, class_="chart", role="img", viewBox=f"0 0 {WIDTH} {height:g}")


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """Return a rectangle that is always wide enough to be seen."""
    return tag("rect", x=x, y=y, width=max(width, 1.0), height=height, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, told: str = "") -> Markup:
    """Return a circle, with what is told where a pointer rests on it."""
    return tag("circle", *([tag("title", told)] if told else []), cx=x, cy=y, r=radius, class_=class_)


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str | None = None) -> Markup:
    """Return a line of text."""
    return tag("text", words, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def shortened(words: str, letters: int) -> str:
    """Return words cut to so many letters."""
    return words if len(words) <= letters else f"{words[: letters - 1]}\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True)
class Scale:
    """Where values lie between two ends of an axis; a logarithmic one takes positive values alone."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value, the middle where all values are one."""
        low, high, at = (self._on_axis(number) for number in (self.low, self.high, value))
        if high <= low:
            return (self.start + self.end) / 2
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return values worth a tick, at most five."""
        return _log_ticks(self.low, self.high) if self.logarithmic else _linear_ticks(self.low, self.high)

    def _on_axis(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def scale_of(
    values: Sequence[float], start: float, end: float, *, margin: float = 0.06, logarithmic: bool = False
) -> Scale:
    """Return a scale that holds the values with some room at both ends; `values` is not empty."""
    low, high = min(values), max(values)
    if logarithmic:
        span = (high / low) ** margin if high > low else 1.5
        return Scale(low / span, high * span, start, end, logarithmic=True)
    room = (high - low) * margin or abs(high) * 0.05 or 1.0
    return Scale(low - room, high + room, start, end)


def _linear_ticks(low: float, high: float) -> list[float]:
    if high <= low:
        return [low]
    rough = (high - low) / _TICKS_MOST
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**decade for decade in decades for f in factors if low <= f * 10.0**decade <= high]
        if len(found) < 2:
            return _linear_ticks(low, high)
        if len(found) <= _TICKS_MOST:
            return found
    return found[:: math.ceil(len(found) / _TICKS_MOST)]


def _number(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
