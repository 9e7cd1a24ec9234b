"""How a job says how far it is: one JSON line each on a pipe that it inherits.

The parent reads with a timeout and never waits for a slow child; a child whose parent does not read fast enough
waits, which happens to nobody, because a line is short and the parent looks often.
"""

import json
import os
import select
from types import TracebackType
from typing import Self

PROGRESS_VARIABLE = "EDGEFLEET_PROGRESS_FD"
WORDS_MAX = 400
_READ_BYTES = 65_536


def tell(share: float, words: str) -> None:
    """Say that `share` (0 to 1) of the job is done and what it is at; does nothing outside a job."""
    descriptor = os.environ.get(PROGRESS_VARIABLE)
    if descriptor:
        line = json.dumps([round(min(max(share, 0.0), 1.0), 4), words[:WORDS_MAX]])
        os.write(int(descriptor), line.encode() + b"\n")


class ProgressPipe:
    """The parent's end. Leaving the context closes both."""

    def __init__(self) -> None:
        """Open the pipe; `writing` is to be inherited by the child."""
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._poll = select.poll()
        self._poll.register(self._reading, select.POLLIN)
        self._kept = b""
        self.is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_writing()
        os.close(self._reading)

    def close_writing(self) -> None:
        """Close this process's copy of the child's end, so that the child's end is the pipe's end."""
        if self.writing >= 0:
            os.close(self.writing)
            self.writing = -1

    def lines(self, wait_s: float) -> list[tuple[float, str]]:
        """Return what was said, waiting at most `wait_s` for something; empty at the pipe's end."""
        if not self.is_open or not self._poll.poll(max(0.0, wait_s) * 1000):
            return []
        read = os.read(self._reading, _READ_BYTES)
        self.is_open = bool(read)
        *whole, self._kept = (self._kept + read).split(b"\n")
        return [said for said in map(_said, whole) if said]


def _said(line: bytes) -> tuple[float, str] | None:
    # The child runs what strangers sent: anything that is not a line of progress is passed over.
    try:
        share, words = json.loads(line)
        return float(share), str(words)[:WORDS_MAX]
    except (ValueError, TypeError):
        return None
