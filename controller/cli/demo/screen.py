"""How the demo is told: numbered acts, plain sentences, tables. Plain lines where there is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text


class Screen:
    """The narrator. With `quiet_stdout` everything goes to stderr, and stdout is left to the result."""

    def __init__(self, *, quiet_stdout: bool) -> None:
        """Take the console that suits the output."""
        console = Console(stderr=quiet_stdout, highlight=False)
        # Redirected output is not wrapped at 80 columns, so that every fact stays on one line.
        self.console = console if console.is_terminal else Console(stderr=quiet_stdout, highlight=False, width=160)
        self._acts = 0
        self._begun = time.monotonic()

    def act(self, title: str) -> None:
        """Begin the next act."""
        self._acts += 1
        elapsed = f"{time.monotonic() - self._begun:4.0f} s"
        self.console.print()
        self.console.print(Text.assemble((f"{self._acts}. {title}", "bold"), (f"   {elapsed}", "dim")))

    def say(self, words: str, *, style: str = "") -> None:
        """Tell one fact."""
        self.console.print(Text(f"   {words}", style=style), soft_wrap=True)

    def show(self, drawing: RenderableType) -> None:
        """Show a table or a tree."""
        self.console.print(Padding(drawing, (0, 0, 0, 3), expand=False))

    @contextmanager
    def during(self, words: str) -> Iterator[None]:
        """Show that something takes its time, and afterwards how much."""
        begun = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(words):
                yield
        else:
            yield
        self.say(f"{words}: {time.monotonic() - begun:.1f} s")
