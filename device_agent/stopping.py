"""The wish to stop, as a signal brings it: wakes the agent from its wait, and nothing else."""

import select
import signal
import socket


class StopSignal:
    """Set by SIGTERM and SIGINT. The wait ends at once, without the races of locks inside signal handlers."""

    def __init__(self) -> None:
        """Not set."""
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.is_set = False

    def listen(self) -> None:
        """Take over the process's signals."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: self.set())

    def set(self) -> None:
        """Ask the agent to stop."""
        if not self.is_set:
            self.is_set = True
            self._writer.send(b"x")

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is set or the time has passed; return whether it is set."""
        select.select([self._reader], [], [], max(0.0, timeout_s))
        return self.is_set

    def close(self) -> None:
        """Give the sockets back."""
        self._reader.close()
        self._writer.close()
