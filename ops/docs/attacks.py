"""Writes docs/reference/attacks.md from the attack tests themselves: `python -m ops.docs.attacks`."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.attacks import Group

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "attacks.md"

INTRODUCTION = """# Attacks

Written by `python -m ops.docs.attacks` from the tests; do not edit it here.

Each line is a test. It plays the attack against the real code of the side that must withstand it: the agent's own
verification over HTTP against a real repository, or the controller's real API and signer. What is named is the exact
outcome that the test demands: the stable code, with the document or part at fault in brackets, or the words of what
happens instead. [Trust](../explanation/trust.md) says what the codes protect and which threats stay.
"""


@dataclass(frozen=True)
class Attack:
    """One test's decorator."""

    group: Group
    what: str
    outcome: str
    test: str
    body: str
    """The test's own lines, without its decorators."""
    compares: bool
    """False for `attack`, which compares the outcome itself."""


def attacks() -> list[Attack]:
    """Return every attack test, in the order of the files and of the lines in them."""
    return [found for file in sorted((ROOT / "tests").rglob("test_*.py")) for found in _attacks_in(file)]


def _attacks_in(file: Path) -> Iterator[Attack]:
    text = file.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            name = f"{file.relative_to(ROOT / 'tests')}: {node.name}"
            body = "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
            for call in filter(None, map(_listed, node.decorator_list)):
                group, what, outcome = call.args
                assert isinstance(group, ast.Attribute)
                words = ast.literal_eval(what), ast.literal_eval(outcome)
                yield Attack(Group[group.attr], *words, name, body, _name(call) == "plays")


def _listed(decorator: ast.expr) -> ast.Call | None:
    return decorator if isinstance(decorator, ast.Call) and _name(decorator) in {"attack", "plays"} else None


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def render() -> str:
    """Return the page."""
    found = attacks()
    lines = [INTRODUCTION, f"{len(found)} attacks.\n"]
    for group in Group:
        of_group = [one for one in found if one.group is group]
        lines += [f"## {group}\n", "| attack | outcome | test |", "|---|---|---|"]
        lines += [f"| {one.what} | {_code(one.outcome)} | `{one.test}` |" for one in of_group]
        lines.append("")
    return "\n".join(lines)


def _code(outcome: str) -> str:
    return f"`{outcome}`" if outcome.startswith("E_") else outcome


if __name__ == "__main__":
    PAGE.write_text(render())
    sys.stdout.write(f"{PAGE}\n")
