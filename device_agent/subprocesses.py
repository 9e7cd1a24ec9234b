"""Child processes that are watched without waiting: a deadline, bounded output, and no orphans.

A child runs in a session of its own, so that its whole family can be ended with it.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUT_CHARACTERS = 500
"""How much of a child's output is kept, from its end."""


@dataclass(frozen=True)
class Ended:
    """How a child ended. `status` is None when it was ended for taking too long, negative for a signal."""

    status: int | None
    output: str


class Child:
    """One running child."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        timeout_s: float,
        environment: Mapping[str, str],
        directory: Path | None = None,
    ) -> None:
        """Start it; OSError when there is no such program."""
        # A file, not a pipe: a child that fills a pipe nobody reads would stop for ever.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._deadline = time.monotonic() + timeout_s
        try:
            self._process = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                cwd=directory,
                start_new_session=True,
            )
        except OSError:
            self._output.close()
            raise

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def poll(self) -> Ended | None:
        """Return how it ended, None while it runs within its time."""
        status = self._process.poll()
        if status is not None:
            return self._finish(status)
        if time.monotonic() > self._deadline:
            self._kill()
            return self._finish(None)
        return None

    def wait(self) -> Ended:
        """Return how it ended, waiting at most for its time."""
        try:
            status = self._process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill()
            return self._finish(None)
        return self._finish(status)

    def stop(self) -> None:
        """End it and its family now."""
        if self._process.poll() is None:
            self._kill()
        self._output.close()

    def _kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _finish(self, status: int | None) -> Ended:
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - 4 * OUTPUT_CHARACTERS))
        text = self._output.read().decode(errors="replace")
        self._output.close()
        return Ended(status, text.strip()[-OUTPUT_CHARACTERS:])
