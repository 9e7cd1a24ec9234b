"""The soak: a candidate serves, and the operator's own command must keep saying that it is healthy.

The command knows what no checksum can: whether the answers make sense where the device stands. It runs every
`interval_s`, beginning at once. One failure ends the soak; at least one success is needed to pass it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.failure import Failure
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import FailureStage
from device_agent.subprocesses import Child, Ended


@dataclass(frozen=True)
class HealthCommand:
    """The operator's command, as an argument list; an empty one always succeeds."""

    arguments: tuple[str, ...]
    interval_s: float
    timeout_s: float


@dataclass(frozen=True)
class Candidate:
    """What the health command is told, in its environment."""

    slot: str
    version: str
    manifest: str
    inference_url: str

    def environment(self) -> dict[str, str]:
        """Return the variables of the health command."""
        return {
            "EDGEFLEET_SLOT": self.slot,
            "EDGEFLEET_VERSION": self.version,
            "EDGEFLEET_MANIFEST": self.manifest,
            "EDGEFLEET_INFERENCE_URL": self.inference_url,
        }


class Soak:
    """Watches one candidate without ever waiting for it."""

    def __init__(
        self,
        candidate: Candidate,
        command: HealthCommand,
        soak_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin the soak now."""
        self._candidate = candidate
        self._command = command
        self._clock = clock
        self._ends = clock() + soak_s
        self._next_check = clock()
        self._check: Child | None = None
        self._proven = not command.arguments

    def poll(self) -> Failure | bool:
        """Return the failure that ends the soak, True when it is passed, False while it goes on."""
        if self._check is None and self._command.arguments and self._clock() >= self._next_check:
            failure = self._start_check()
            if failure:
                return failure
        ended = self._check.poll() if self._check else None
        if ended is not None:
            self._check = None
            self._next_check = self._clock() + self._command.interval_s
            if ended.status != 0:
                return _unhealthy(_describe(ended, self._command.timeout_s))
            self._proven = True
        return self._proven and self._check is None and self._clock() >= self._ends

    def stop(self) -> None:
        """End the soak early; a running check is ended with it."""
        if self._check:
            self._check.stop()
            self._check = None

    def _start_check(self) -> Failure | None:
        try:
            self._check = Child(
                self._command.arguments,
                timeout_s=self._command.timeout_s,
                environment=self._candidate.environment(),
            )
        except OSError as error:
            # The command is at fault and not the candidate, but a device that cannot tell must not keep it.
            return _unhealthy(f"cannot be started: {error}")
        return None


def _unhealthy(message: str) -> Failure:
    return Failure(FailureStage.HEALTH, Code.HEALTH_COMMAND, f"health command {message}", refuses=True)


def _describe(ended: Ended, timeout_s: float) -> str:
    how = f"took longer than {timeout_s:g} s" if ended.status is None else f"ended with status {ended.status}"
    return f"{how}: {ended.output}" if ended.output else how
