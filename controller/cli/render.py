"""What commands print: data on stdout as a table or as JSON, progress and notices on stderr.

A noun declares its columns once; its list is a table of them, and one thing is the same fields below each other.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 240
"""Columns when stdout is not a terminal, so that lines can be cut and searched without wraps."""

ACCURACY = "accuracy"
GOOD = frozenset({"ready", "published", "healthy", "succeeded", "chosen"})
BAD = frozenset({"failed", "refused", "aborted", "silent"})


@dataclass(frozen=True)
class Column:
    """One fact of a document: its heading and how to read it."""

    heading: str
    value: Callable[[dict[str, Any]], object]
    justify: Literal["left", "right"] = "left"


def field(heading: str, key: str, justify: Literal["left", "right"] = "left") -> Column:
    """Make a column of a field that is shown as it is."""
    return Column(heading, lambda document: document.get(key), justify)


def moment(heading: str, key: str) -> Column:
    """Make a column that says how long ago a moment was."""
    return Column(heading, lambda document: ago(document.get(key)))


def screen() -> Console:
    """Return the console for data."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)


def notices() -> Console:
    """Return the console for everything that is not data."""
    return Console(stderr=True, highlight=False)


def show_list(document: dict[str, Any], columns: Sequence[Column], output: str, *, empty: str) -> None:
    """Print a list's items, or its JSON; `empty` says what to do next when there are none."""
    if output == "json":
        print_json(document)
    elif document["items"]:
        screen().print(table(document["items"], columns))
    else:
        notices().print(empty, soft_wrap=True)


def show_one(document: dict[str, Any], columns: Sequence[Column], output: str) -> None:
    """Print one thing's fields below each other, or its JSON."""
    if output == "json":
        print_json(document)
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for column in columns:
        grid.add_row(column.heading.lower(), cell(column.value(document)))
    screen().print(grid)


def table(items: Sequence[dict[str, Any]], columns: Sequence[Column]) -> Table:
    """Return the items as a table without frames, which is easy on eyes and on `grep`."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        result.add_column(column.heading, justify=column.justify, overflow="fold")
    for item in items:
        result.add_row(*(cell(column.value(item)) for column in columns))
    return result


def cell(value: object) -> Text:
    """Return a value as text, with states in the colour that they deserve."""
    if value is None or value == "":
        return Text("-", style="dim")
    words = str(value)
    first = words.split(" ", maxsplit=1)[0]
    return Text(words, style="green" if first in GOOD else "red" if first in BAD else "")


def print_json(document: object) -> None:
    """Print a document as the API gave it."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def size(size_bytes: float | None) -> str | None:
    """Return a size in decimal units, `177.3 kB`."""
    return None if size_bytes is None else decimal(int(size_bytes))


def percent(share: float | None, digits: int = 1) -> str | None:
    """Return a share as a percentage."""
    return None if share is None else f"{share * 100:.{digits}f} %"


def metric_value(value: float | None, metric: str | None) -> str | None:
    """Return the value of a metric: accuracy is a share, everything else is told as it is."""
    if value is None:
        return None
    return percent(value, 2) if metric == ACCURACY else f"{value:.4f}"


def metric_drop(drop: float | None, metric: str | None) -> str | None:
    """Return by how much a metric fell, in points of accuracy or in the metric's own units."""
    if drop is None:
        return None
    return f"{drop * 100:+.2f} points" if metric == ACCURACY else f"{drop:+.4f}"


def labels(value: dict[str, str] | None) -> str | None:
    """Return labels in the form that selectors are written in."""
    return ",".join(f"{key}={text}" for key, text in sorted((value or {}).items())) or None


def ago(text: str | None, now: datetime | None = None) -> str | None:
    """Return how long ago a moment (RFC 3339) was, in the largest unit that fits."""
    if not text:
        return None
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(text)).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if abs(seconds) >= length:
            return _relative(f"{abs(seconds) / length:.0f}{unit}", seconds)
    return "now" if abs(seconds) < 1 else _relative(f"{abs(seconds):.0f}s", seconds)


def _relative(amount: str, seconds: float) -> str:
    return f"{amount} ago" if seconds >= 0 else f"in {amount}"
