"""The child's side of a job: limits first, then the module; and how a module hands its result over.

    python -m controller.artifacts.confinement PARENT_PID MEMORY_BYTES CPU_S MODULE [ARGUMENT ...]

The process dies with its parent, never leaves a core dump, and cannot use more address space, processor time or
file size than it was given. Nothing of the model is touched before these hold.
"""

import ctypes
import json
import os
import resource
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

from controller.domain.errors import InvalidInput

TOLD_MAX = 2000
"""Characters of a refusal: its words may quote a stranger's file."""
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends to this process when its parent ends."""


def main() -> None:
    """Confine this process as the command line says, then run the module as the main program."""
    parent, memory_bytes, cpu_s = map(int, sys.argv[1:4])
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, sys.argv = sys.argv[4], sys.argv[4:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def die_with(parent: int) -> None:
    """Have the kernel end this process when `parent` ends; exit at once if it already has."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent has ended")


def answer(work: Callable[[], dict[str, Any]]) -> None:
    """Run a job and print its outcome as the only line on standard output.

    The line is `{"result": {...}}`, or `{"refused": {"code", "detail", "field"}}` for InvalidInput and for work
    that does not fit into memory. Whatever else is printed meanwhile goes to standard error.
    """
    result = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        outcome: dict[str, Any] = {"result": work()}
    except InvalidInput as refusal:
        outcome = {"refused": {"code": refusal.code, "detail": _plain(refusal.detail), "field": refusal.field}}
    except MemoryError:
        told = "it needs more memory than a job may use (job_memory_bytes)"
        outcome = {"refused": {"code": "too_much_memory", "detail": told, "field": None}}
    with os.fdopen(result, "w") as stream:
        stream.write(json.dumps(outcome) + "\n")


def _plain(told: str) -> str:
    # Whoever reads it may be a terminal, or a database that cannot keep every character.
    shown = "".join(character if character.isprintable() else "?" for character in told[:TOLD_MAX])
    return shown if len(told) <= TOLD_MAX else f"{shown}..."


if __name__ == "__main__":
    main()
