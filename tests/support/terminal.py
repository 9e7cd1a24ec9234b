"""A reader's terminal: one bash that is given block after block, and what each block printed."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.support.processes import Process, kill_family

MARK = "== the block has ended =="
PRELUDE = f"""
set -o errtrace
FAILED=
trap 'FAILED="$FAILED $BASH_COMMAND"' ERR
trap 'kill $(jobs -p) 2> /dev/null' EXIT
typed() {{ source "$1" < /dev/null; printf '\\n%s%s\\n' '{MARK}' "$FAILED"; FAILED=; }}
"""
"""A command that fails is remembered, and not the end: so it is for who types."""


class Terminal:
    """Variables, the folder and processes in the background live on from block to block."""

    def __init__(self, process: Process, scratch: Path) -> None:
        self.printed = ""
        self._process = process
        self._scratch = scratch
        self._write(PRELUDE)

    def type(self, block: str) -> str:
        """Run a block; return what it printed, to both streams. AssertionError names commands that failed."""
        self._scratch.write_text(block)
        self._write(f"typed '{self._scratch}'\n")
        printed = ""
        for line in self._stream(self._process.stdout):
            text = line.decode()
            if text.startswith(MARK):
                failed = text.removeprefix(MARK).strip()
                assert not failed, f"{failed!r} failed; the block printed:\n{printed}"
                return printed
            printed += text
            self.printed += text
        raise AssertionError(f"the terminal closed; the block printed:\n{printed}")

    def _write(self, commands: str) -> None:
        stdin = self._stream(self._process.stdin)
        stdin.write(commands.encode())
        stdin.flush()

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream
        return stream


@contextmanager
def a_terminal(folder: Path, scratch: Path, environment: Mapping[str, str]) -> Iterator[Terminal]:
    """Open a terminal in a folder; `scratch` is a file for it alone. What still runs at the end is killed."""
    tied = [sys.executable, "-m", "controller.cli.demo.tied", str(os.getpid())]
    process = subprocess.Popen(
        [*tied, "bash", "--noprofile", "--norc"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
    )
    terminal = Terminal(process, scratch)
    try:
        yield terminal
    except BaseException:
        sys.stderr.write(terminal.printed)
        raise
    finally:
        kill_family(process)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()
