"""The demo's processes: each with a log file of its own, all ended together, none left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from controller.cli.errors import CommandFailed

T = TypeVar("T")

STOP_S = 10.0
"""How long a process may take to end by itself."""
LOG_LINES = 15
"""How much of a dead process's log is shown."""


class DemoProcess:
    """One running process and its log."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        """Take a process that was just started."""
        self.name = name
        self.log = log
        self._popen = popen

    def require_alive(self) -> None:
        """Raise CommandFailed with the end of the log if the process has ended."""
        status = self._popen.poll()
        if status is not None:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])
            raise CommandFailed(f"{self.name} ended with status {status}; the end of {self.log}:\n{last}")

    def terminate(self) -> None:
        """Ask it to end."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)

    def reap(self, deadline: float) -> None:
        """Wait for its end until the deadline (monotonic), then end its whole family by force."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


class Processes:
    """Every process of the demo. Leaving the context ends them, the last started first."""

    def __init__(self, logs: Path) -> None:
        """Keep logs in this folder."""
        self._logs = logs
        self._running: list[DemoProcess] = []

    def __enter__(self) -> Self:
        """Begin with none."""
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them all."""
        deadline = time.monotonic() + STOP_S
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            process.reap(deadline)

    def start(
        self, name: str, module: str, *arguments: str, environment: Mapping[str, str], directory: Path
    ) -> DemoProcess:
        """Start `python -m MODULE ARGUMENTS` in a folder.

        In a session of its own, so that Ctrl-C reaches the demo alone, which then ends its processes in order.
        """
        log = self._logs / f"{name}.log"
        tied: Sequence[str] = [sys.executable, "-m", "controller.cli.demo.tied", str(os.getpid())]
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [*tied, sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                cwd=directory,
                start_new_session=True,
            )
        process = DemoProcess(name, popen, log)
        self._running.append(process)
        return process

    def stop(self, process: DemoProcess) -> None:
        """End one of them now."""
        self._running.remove(process)
        process.terminate()
        process.reap(time.monotonic() + STOP_S)

    def require_alive(self) -> None:
        """Raise CommandFailed if any of them has ended by itself."""
        for process in self._running:
            process.require_alive()

    def wait_for(self, what: str, condition: Callable[[], T | None], timeout_s: float) -> T:
        """Return what the condition finds; CommandFailed when a process dies or the time passes first."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = condition()
            if found:
                return found
            self.require_alive()
            if time.monotonic() > deadline:
                raise CommandFailed(f"gave up after {timeout_s:g} s waiting for {what}; the logs are in {self._logs}")
            time.sleep(0.1)
