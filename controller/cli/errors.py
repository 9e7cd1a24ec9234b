"""How a command ends: exit codes that scripts can rely on, and the error that carries one.

The codes follow `gh` where it has one (4 not allowed, 8 still running).
"""

from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What the process tells its caller. Added to, never renumbered."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_COMPLETED = 3
    """What was waited for ended, but not well: a rollout aborted, a version failed."""
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    INVALID = 7
    STILL_RUNNING = 8
    """The time given by `--timeout` passed first."""
    INTERRUPTED = 130


EXIT_OF_STATUS = {
    400: ExitCode.INVALID,
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    412: ExitCode.CONFLICT,
    413: ExitCode.INVALID,
    415: ExitCode.INVALID,
    422: ExitCode.INVALID,
    428: ExitCode.CONFLICT,
}
"""HTTP statuses that mean more than "it went wrong"."""


class CommandFailed(Exception):
    """The command cannot do what it was asked to; the text is one line for the operator."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.ERROR) -> None:
        """Keep the code that the process exits with."""
        self.exit_code = exit_code
        super().__init__(message)


class Refused(CommandFailed):
    """The controller said no; `code` is the stable word of its problem document (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        """Put code, detail and the fields concerned into one line."""
        self.code = str(problem.get("code") or f"http_{status}")
        detail = problem.get("detail") or problem.get("title") or f"the controller answered {status}"
        text = f"{self.code}: {detail}"
        for error in problem.get("errors") or []:
            pointer, words = error.get("pointer", ""), error.get("detail", "")
            text += f" [{pointer}]" if words in ("", detail) else f" [{pointer}: {words}]"
        super().__init__(text, EXIT_OF_STATUS.get(status, ExitCode.ERROR))
