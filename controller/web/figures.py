"""Figures as people read them: sizes, durations, shares, values of a metric. None is a dash everywhere."""

from collections.abc import Sequence

NOTHING = "\N{EN DASH}"
POINTS_METRIC = "accuracy"
"""Its values are shares, and its differences points; all other metrics are told as they are."""
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_DURATIONS = ((1e6, "s"), (1e3, "ms"), (1.0, "\N{MICRO SIGN}s"))


def size(size_bytes: float | None) -> str:
    """Return bytes in decimal units, `177.3 kB`."""
    if size_bytes is None:
        return NOTHING
    for scale, unit in _SIZES:
        if abs(size_bytes) >= scale:
            return f"{size_bytes / scale:.1f} {unit}"
    return f"{size_bytes:.0f} B"


def duration(microseconds: float | None) -> str:
    """Return microseconds with three digits, `18.4 µs`."""
    if microseconds is None:
        return NOTHING
    scale, unit = next((pair for pair in _DURATIONS if microseconds >= pair[0]), _DURATIONS[-1])
    return f"{_digits(microseconds / scale)} {unit}"


def tick_duration(microseconds: float) -> str:
    """Return a round duration at an axis, `300 µs`."""
    scale, unit = next((pair for pair in _DURATIONS if microseconds >= pair[0]), _DURATIONS[-1])
    return f"{microseconds / scale:g} {unit}"


def tick_size(size_bytes: float) -> str:
    """Return a round size at an axis, `20 kB`."""
    scale, unit = next((pair for pair in _SIZES if size_bytes >= pair[0]), (1.0, "B"))
    return f"{size_bytes / scale:g} {unit}"


def tick_value(figure: float, metric: str | None) -> str:
    """Return a round value of a metric at an axis."""
    return f"{figure * 100:.4g} %" if metric == POINTS_METRIC else f"{figure:.4g}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share as a percentage."""
    return NOTHING if value is None else f"{value * 100:.{digits}f} %"


def value(figure: float | None, metric: str | None) -> str:
    """Return a value of a metric: accuracy as a percentage, others with four decimals."""
    if figure is None:
        return NOTHING
    return share(figure, 2) if metric == POINTS_METRIC else f"{figure:.4f}"


def drop(figure: float | None, metric: str | None) -> str:
    """Return by how much a value fell: points of accuracy, others with four decimals; a gain has a minus."""
    if figure is None:
        return NOTHING
    return signed(figure * 100, 2) if metric == POINTS_METRIC else signed(figure, 4)


def interval(ends: Sequence[float] | None, metric: str | None, *, of_drop: bool = False) -> str:
    """Return an interval's ends, `87.25 to 93.00`, without units; empty where there is none."""
    if not ends:
        return ""
    if of_drop:
        return " to ".join(drop(end, metric) for end in ends)
    return " to ".join(value(end, metric).removesuffix(" %") for end in ends)


def ratio(times: float | None) -> str:
    """Return how many times smaller something became, `2.8x`."""
    return NOTHING if times is None else f"{times:.3g}\N{MULTIPLICATION SIGN}"


def small(figure: float | None) -> str:
    """Return a relative error with two digits."""
    return NOTHING if figure is None else f"{figure:.2g}"


def signed(figure: float, digits: int) -> str:
    """Return a number with its sign, zero without one."""
    written = f"{figure:+.{digits}f}"
    return written[1:] if float(written) == 0 else written.replace("-", "\N{MINUS SIGN}")


def _digits(number: float) -> str:
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f}"
