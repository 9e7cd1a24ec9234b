"""Runs a command that ends when its parent does, however the parent ends: `python -m ... COMMAND ARGUMENTS`.

The wish to be told of the parent's death survives `exec` (prctl(2), PR_SET_PDEATHSIG). Done in a small program
of its own, because Python's `preexec_fn` may dead-lock in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, arguments = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # it died before the wish was made
    os.execvp(arguments[0], arguments)  # noqa: S606


if __name__ == "__main__":
    main()
