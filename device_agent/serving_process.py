"""The serving process's life: found where it already runs, started where it does not, replaced when it died.

It is a process and a session of its own, so that an agent that is killed leaves it serving; the next agent finds
it behind its socket and takes it over.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from device_agent.errors import ServingUnavailableError
from device_agent.polling import Backoff, retry_s
from device_agent.serving_client import ServingClient, ServingStatus

_log = logging.getLogger(__name__)
_RESTARTS = Backoff(base_s=0.5, cap_s=60.0)
_QUIET_S = 60.0
"""A process that stayed up for this long has earned a prompt restart again."""
_LOG_FILE = "serving.log"


class ServingProcess:
    """Keeps one serving process up, without ever waiting for long."""

    def __init__(
        self,
        client: ServingClient,
        *,
        state_dir: Path,
        socket_path: Path,
        models: Path,
        listen: str,
        threads: int,
        random: Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is started before the first `ensure`."""
        self.client = client
        self._state_dir = state_dir
        self._socket_path = socket_path
        self._models = models
        self._listen = listen
        self._threads = threads
        self._random = random
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._since = 0.0
        self._failures = 0
        self._not_before = 0.0

    def ensure(self, *, start_s: float = 30.0) -> ServingStatus | None:
        """Return the status of a process that answers, started if need be; None while it may not be started yet."""
        status = self._status()
        if status and status.pid != self._pid and not self._works_as_told(status):
            told = "the running serving process listens on %s with %d threads; replacing it"
            _log.info(told, status.address, status.threads)
            self.stop()
            status = None
        if status is None:
            if self._clock() < self._not_before:
                return None
            status = self._start(start_s)
        if status:
            self._pid = status.pid
        return status

    def stop(self, *, drain_s: float = 35.0) -> None:
        """Let the process drain and end; kill it when it does not."""
        status = self._status()
        if status is None:
            self._reap(0.0)
            return
        try:
            self.client.stop()
        except ServingUnavailableError as error:
            _log.warning("%s", error)
        if not self._wait_gone(status.pid, drain_s):
            _kill(status.pid)
        self._reap(5.0)

    def _status(self) -> ServingStatus | None:
        if self._child and self._child.poll() is not None:
            _log.warning("the serving process ended with status %s", self._child.returncode)
            self._child = None
        try:
            return self.client.status()
        except ServingUnavailableError:
            return None

    def _works_as_told(self, status: ServingStatus) -> bool:
        listens_as_told = self._listen.endswith(":0") or status.address == self._listen
        return listens_as_told and status.threads == self._threads

    def _start(self, start_s: float) -> ServingStatus | None:
        if self._child or self._pid:
            # It runs but does not answer, or it is gone: either way its place must be free.
            self._reap(0.0)
        if self._clock() - self._since > _QUIET_S:
            self._failures = 0
        self._failures += 1
        self._since = self._clock()
        self._not_before = self._since + retry_s(self._failures, _RESTARTS, self._random)
        self._spawn()
        deadline = time.monotonic() + start_s
        while self._child and self._child.poll() is None and time.monotonic() < deadline:
            status = self._status()
            if status:
                _log.info("serving process %d answers on %s", status.pid, status.address)
                return status
            time.sleep(0.02)
        _log.error("the serving process did not start; see %s", self._state_dir / _LOG_FILE)
        return None

    def _spawn(self) -> None:
        # -P keeps the state directory, where the process works, off the import path.
        program = [sys.executable, "-P", "-m", "device_agent.serving"]
        options = ["--listen", self._listen, "--control", self._socket_path.name, "--store", str(self._models)]
        options += ["--threads", str(self._threads)]
        with (self._state_dir / _LOG_FILE).open("wb") as log:
            self._child = subprocess.Popen(
                [*program, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._state_dir,
                start_new_session=True,
            )

    def _wait_gone(self, pid: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (self._child and self._child.poll() is not None) or not _runs(pid):
                return True
            time.sleep(0.02)
        return False

    def _reap(self, timeout_s: float) -> None:
        if self._child:
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        elif self._pid and _runs(self._pid) and _is_serving(self._pid):
            _kill(self._pid)
        self._child = self._pid = None


def _runs(pid: int) -> bool:
    """Tell whether the process works; one that has ended and that nobody waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # The state follows the program's name, which stands in parentheses and may hold anything (proc(5)).
    return stat.rpartition(")")[2].split()[0] != "Z"


def _is_serving(pid: int) -> bool:
    """Tell whether the process id still names a serving process: ids are used again after a death."""
    try:
        return b"device_agent.serving" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
