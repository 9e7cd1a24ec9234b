"""Processes of tests that end with this one, however it ends, and that can be killed with all their children."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

Process = subprocess.Popen[bytes]


def start_tied(module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None) -> Process:
    """Start `python -m MODULE ARGUMENTS`, which is asked to end when this process dies; its output goes to the log."""
    tied = [sys.executable, "-m", "controller.cli.demo.tied", str(os.getpid())]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*tied, sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )


def kill_family(process: Process) -> None:
    """Kill a process and everything that it started, at once and without warning."""
    # The parent goes first: it might start again what it sees dying.
    for pid in _family(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def with_in_environment(mark: str) -> list[str]:
    """Return the command lines of the running processes that have this text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is somebody else's
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


def _family(pid: int) -> list[int]:
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The state and the parent follow the program's name, which stands in parentheses (proc(5)).
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family
