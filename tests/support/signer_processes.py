"""Real signer processes on a place of their own, which may be killed, and started again on the same folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from controller.trust.signer.client import RemoteSigner
from tests.support.image_repositories import Place
from tests.support.waiting import wait_until


class SignerProcess:
    """A signer as `edgefleet signer start` runs it."""

    def __init__(self, place: Place, *options: str, socket: Path | None = None, **environment: str) -> None:
        """Name the place; nothing runs yet. `options` go to the command line, `environment` to the process."""
        self.socket = socket or place.path / "signer.sock"
        self.log = place.path / "signer.log"
        folders = ("--directory", str(place.path / "signer"), "--tuf", str(place.directory))
        self._command = [sys.executable, "-m", "controller.trust.signer", "--socket", str(self.socket), *folders]
        self._command += [*options, "--tied"]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGEFLEET_")}
        self._environment = {**clean, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SignerProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process
        return self._process.pid

    def client(self) -> RemoteSigner:
        """Return a client of its own."""
        return RemoteSigner(self.socket)

    def start(self) -> None:
        """Start, and wait until it listens."""
        before = self.said()
        self._spawn()
        wait_until(lambda: "listens" in self.said()[len(before) :] or self._ended(), what="the signer to listen")
        assert not self._ended(), self.said()

    def fails(self) -> str:
        """Start where it must end by itself; return what it said."""
        self._spawn()
        assert self._reap() == 1
        return self.said()

    def kill(self) -> None:
        """End it as a loss of power would."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(signal.SIGTERM)
        return self._reap()

    def lose_parent(self) -> int:
        """End its standard input, as the death of its parent does; return its exit code."""
        assert self._process
        assert self._process.stdin
        self._process.stdin.close()
        return self._reap()

    def said(self) -> str:
        """Return everything that it has said, over all its starts."""
        return self.log.read_text() if self.log.exists() else ""

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment
            )

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _reap(self) -> int:
        assert self._process
        code = self._process.wait(60)
        assert self._process.stdin
        self._process.stdin.close()
        self._process = None
        return code
