"""What `./run test` does: install what the tests need, check the source, run every test.

With arguments it is pytest with these arguments and nothing else.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.browser import find_browser
from tests.support.services import MissingProgramError, find_postgres, find_redis

ROOT = Path(__file__).parents[2]

PROCESSES = "3"
"""One more than the smallest machine has cores: most tests wait for processes and disks part of their time."""


@dataclass(frozen=True)
class Part:
    """Something real that the tests use and that pip alone may not bring."""

    name: str
    package: str
    """Debian's package."""
    installed_by_debian: Callable[[], bool]
    find: Callable[[], Path]
    """Raises MissingProgramError."""
    tests: str | None = None
    """The folder of tests that cannot run without it; None where all others would fail too."""


PARTS = (
    Part("PostgreSQL", "postgresql", lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")), find_postgres),
    Part("Redis", "redis-server", lambda: shutil.which("redis-server") is not None, find_redis),
    Part("a browser", "chromium-headless-shell", lambda: _has(find_browser), find_browser, "tests/browser"),
)


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 when every check and every test passed."""
    if arguments:
        return _pytest(arguments)
    _install([part.package for part in PARTS if not part.installed_by_debian()])
    untried = [part for part in PARTS if part.tests and not _has(part.find)]
    for part in untried:
        _say(f"NOT TRIED: {part.tests}, because {part.name} is missing; apt-get install {part.package} as root")
    if importlib.util.find_spec("torch") is None:
        _say("NOT TRIED: tests marked torch, because PyTorch is missing; tests/README.md says how to run them")
    checks = _timed("linters, types and import contracts", ["./run", "check"])
    tests = _pytest(
        ["-n", PROCESSES, "--dist", "loadgroup", "--no-loadscope-reorder", *(f"--ignore={p.tests}" for p in untried)]
    )
    if checks:
        _say("the linters, types or import contracts FAILED; see above")
    return tests or checks


def _pytest(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT).returncode


def _timed(what: str, command: Sequence[str]) -> int:
    started = time.monotonic()
    code = subprocess.run(command, cwd=ROOT).returncode
    _say(f"{what}: {'FAILED' if code else 'passed'} in {time.monotonic() - started:.1f} s")
    return code


def _install(packages: Sequence[str]) -> None:
    """Install Debian's packages where that is possible; what is then still missing is said elsewhere."""
    if not packages or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    _say(f"installing {', '.join(packages)}")
    # Run level 1 is the one in which Debian's packages do not start their servers: the tests start their own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    # One at a time: a distribution that lacks one of them may still have the others.
    for command in (["update"], *(["install", "-y", "--no-install-recommends", package] for package in packages)):
        done = subprocess.run(["apt-get", "-q", *command], env=environment, capture_output=True, text=True)
        if done.returncode:
            _say(f"apt-get {' '.join(command)} failed: {done.stderr.strip()[-500:]}")


def _has(find: Callable[[], Path]) -> bool:
    try:
        find()
    except MissingProgramError:
        return False
    return True


def _say(words: str) -> None:
    print(f"test: {words}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
