"""The tutorial's page, walked as a reader walks it: every block as it stands, in order, with real processes."""

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.support.pages import Block, blocks_of, not_printed
from tests.support.processes import with_in_environment
from tests.support.terminal import Terminal, a_terminal

PAGE = Path(__file__).parents[2] / "docs/tutorial/compress-a-model.md"
MARK = "EDGEFLEET_TEST_TUTORIAL_IN"
"""A variable that every process of the tutorial inherits, with a folder that only this run has."""


def test_every_block_of_the_tutorial_does_what_the_page_says_and_nothing_stays_behind(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    with a_terminal(folder, tmp_path / "typed.sh", environment(tmp_path)) as terminal:
        walk(blocks_of(PAGE), folder, terminal)
        left = [command for command in with_in_environment(str(tmp_path)) if not command.startswith("bash ")]
    assert left == []


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("int8   published  9.4 kB  98.2 %  0.310 ms  because", []),
        ("int8   refused    9.4 kB  98.2 %  0.310 ms  because", ["int8 published 9.5 kB 99.0 % 0.018 ms …"]),
        ("int8   published  5.6 kB  98.2 %  0.310 ms  because", ["int8 published 9.5 kB 99.0 % 0.018 ms …"]),
        ("int8   published  9.4 kB  97.9 %  0.310 ms  because", ["int8 published 9.5 kB 99.0 % 0.018 ms …"]),
        ("int8   published  9.4 kB  98.2 %", ["int8 published 9.5 kB 99.0 % 0.018 ms …"]),
    ],
)
def test_a_line_is_missed_when_a_word_differs_or_a_figure_is_far_from_the_page(printed: str, told: list[str]) -> None:
    assert not_printed("int8 published 9.5 kB 99.0 % 0.018 ms …\n…\n", f"before\n{printed}\n") == told


def test_a_typed_command_that_fails_is_named(tmp_path: Path) -> None:
    with a_terminal(tmp_path, tmp_path / "typed.sh", os.environ) as terminal:
        assert terminal.type("word=kept\nuntil true; do :; done\n").strip() == ""
        with pytest.raises(AssertionError, match="'ls nowhere' failed"):
            terminal.type("ls nowhere\necho on\n")
        assert terminal.type("echo $word\n").strip() == "kept"


def environment(scratch: Path) -> dict[str, str]:
    """What a reader has: the commands on the path, no settings, and two ports that nobody else uses."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("EDGEFLEET_")}
    # Where Python is told to keep no compiled modules, each of some hundred processes compiles them all again.
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    return {
        **inherited,
        "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EDGEFLEET_PORT": "0",
        "DEVICE_PORT": str(free_port()),
        MARK: str(scratch),
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def walk(blocks: list[Block], folder: Path, terminal: Terminal) -> None:
    printed = ""
    for block in blocks:
        if block.file_name:
            (folder / block.file_name).write_text(block.text)
        elif block.kind == "sh":
            printed = terminal.type(block.text)
        else:
            assert block.kind == "text", f"line {block.line} of the page: who shall do what with {block.kind!r}?"
            missed = not_printed(block.text, printed)
            assert not missed, f"line {block.line} of the page has {missed}, and printed was\n{printed}"
