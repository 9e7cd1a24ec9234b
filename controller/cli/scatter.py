"""A scatter chart in characters: the Pareto front where there is no browser."""

import math
from collections.abc import Sequence

from rich.text import Text

from controller.cli.render import size

WIDTH, HEIGHT = 64, 12
MARKS = "abcdefghijklmnopqrstuvwxyz"

Point = tuple[float, float, str, bool]
"""x, y, name, and whether it is the chosen one."""


def scatter(points: Sequence[Point], *, x: str, y: str) -> Text:
    """Return points with x on a logarithmic axis and a legend below; the chosen one is marked with a star."""
    columns = _places([math.log10(max(point[0], 1.0)) for point in points], WIDTH)
    rows = _places([point[1] for point in points], HEIGHT)
    grid = [[" "] * WIDTH for _ in range(HEIGHT)]
    marks = ["*" if chosen else MARKS[number % len(MARKS)] for number, (_, _, _, chosen) in enumerate(points)]
    for mark, column, row in zip(marks, columns, rows, strict=True):
        grid[HEIGHT - 1 - row][column] = mark
    values, sizes = [point[1] for point in points], [point[0] for point in points]
    lines = [f"{y} {min(values):.4g} to {max(values):.4g}, upwards"]
    lines += ["|" + "".join(row).rstrip() for row in grid]
    lines.append("+" + "-" * WIDTH)
    lines.append(f" {x} {size(min(sizes))} to {size(max(sizes))}, logarithmic")
    lines += [f" {mark} {point[2]}" for mark, point in zip(marks, points, strict=True)]
    return Text("\n".join(lines))


def _places(values: Sequence[float], cells: int) -> list[int]:
    lowest, span = min(values), max(values) - min(values)
    return [round((value - lowest) / span * (cells - 1)) if span else cells // 2 for value in values]
