"""Keeps a child running beside the server, the embedded worker or signer, and wakes the worker when there is work."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

COMMAND = (sys.executable, "-m", "controller.worker.embedded")
BACK_OFF_S = 0.5
BACK_OFF_MAX_S = 30.0
HEALTHY_AFTER_S = 30.0
"""A child that lived this long was in order: the next restart is quick again."""
STOP_S = 20.0
"""How long a child may finish what it has in hand; what is cut off is done by its successor."""
_log = structlog.get_logger()


class Supervisor:
    """Starts the child, restarts it with growing pauses when it dies, and ends it with the server."""

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        name: str = "worker",
    ) -> None:
        """Take the child's environment, None for this process's at the time of each start, its command and its name.

        The child must end when its standard input does.
        """
        self._environment = environment
        self._command = command
        self._name = name
        self.failures = 0
        """How often the child has ended by itself."""
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name=f"{name} supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        child = self._child
        return child.pid if child and child.poll() is None else None

    def start(self) -> None:
        """Start the child; return at once."""
        self._thread.start()

    def send(self, task: str, *ids: str) -> None:
        """Be a TaskQueue: whatever the task, one sweep finds it."""
        del task, ids
        self.poke()

    def poke(self) -> None:
        """Ask the child for a sweep now. Never blocks; without a child it does nothing."""
        with self._lock:
            child = self._child
            if child and child.stdin and not child.stdin.closed:
                # A full pipe means that sweeps are asked for already; a broken one, that the child is gone.
                with suppress(BlockingIOError, BrokenPipeError):
                    os.write(child.stdin.fileno(), b"\n")

    def stop(self) -> None:
        """Have the child finish what it has in hand and end it; return when it is gone."""
        self._stopping.set()
        with self._lock:
            child = self._child
            if child and child.stdin:
                child.stdin.close()
        if child:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
        self._thread.join()

    def _supervise(self) -> None:
        pause_s = BACK_OFF_S
        while child := self._spawn():
            started_s = time.monotonic()
            exit_code = child.wait()
            if self._stopping.is_set():
                return
            lived_long = time.monotonic() - started_s > HEALTHY_AFTER_S
            pause_s = BACK_OFF_S if lived_long else min(2 * pause_s, BACK_OFF_MAX_S)
            self.failures += 1
            _log.error(f"the {self._name} ended; it is started again", exit_code=exit_code, pause_s=pause_s)
            self._stopping.wait(pause_s)

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._stopping.is_set():
                return None
            if self._child and self._child.stdin:
                self._child.stdin.close()
            # A session of its own: Ctrl-C in the terminal reaches the server alone, which then ends the child.
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, env=self._environment, start_new_session=True, bufsize=0
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
            return self._child
