"""Pages of the documentation as a reader walks them: what to type, which files to write, what shall be printed.

A fenced block is a file when its first line is a comment with the file's name; `sh` is typed; `text` is what the
typed block before it prints. Of a `text` block

    every line      must be printed by that block, in any order
    …               stands for anything, or alone on a line for any lines
    words           must be the same; how far they are apart does not matter
    numbers         may differ: those of % and points by 1, others by a quarter or 0.1, whichever is more
    times           (a number before us, ms, s, m) may be any
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ANYTHING = "…"
TIMES = frozenset({"us", "ms", "s", "m"})
SHARES = frozenset({"%", "points"})
POINTS_APART_MAX = 1.0
APART_MAX = 0.1
SHARE_APART_MAX = 0.25

_BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (?P<name>[\w-]+\.\w+)\n")
_TOKEN = re.compile(r"[^\W\d][\w-]*|[-+]?\d+(?:\.\d+)?(?!\w*-\d)|\S")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    text: str
    line: int
    """Of the page, counted from 1, where its text begins."""

    @property
    def file_name(self) -> str | None:
        """The file that the block is; None when it is to be typed or read."""
        found = _FILE_NAME.match(self.text)
        return found["name"] if found else None


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    text = page.read_text()
    return [
        Block(found["kind"], found["text"], text.count("\n", 0, found.start("text")) + 1) for found in _blocks(text)
    ]


def not_printed(expected: str, printed: str) -> list[str]:
    """Return the lines of a `text` block that are not in what was printed."""
    lines = [_TOKEN.findall(line) for line in printed.splitlines()]
    wanted = [line for line in expected.splitlines() if line.strip() not in ("", ANYTHING)]
    return [line for line in wanted if not any(_is_like(_TOKEN.findall(line), tokens) for tokens in lines)]


def _blocks(text: str) -> list[re.Match[str]]:
    return list(_BLOCK.finditer(text))


def _is_like(wanted: Sequence[str], tokens: Sequence[str]) -> bool:
    if not wanted:
        return not tokens
    if wanted[0] == ANYTHING:
        return any(_is_like(wanted[1:], tokens[start:]) for start in range(len(tokens) + 1))
    if not tokens or not _is_near(wanted[0], tokens[0], unit="".join(wanted[1:2])):
        return False
    return _is_like(wanted[1:], tokens[1:])


def _is_near(wanted: str, token: str, unit: str) -> bool:
    if not (_NUMBER.fullmatch(wanted) and _NUMBER.fullmatch(token)):
        return wanted == token
    if unit in TIMES:
        return True
    apart_max = POINTS_APART_MAX if unit in SHARES else max(APART_MAX, SHARE_APART_MAX * abs(float(wanted)))
    return abs(float(wanted) - float(token)) <= apart_max
