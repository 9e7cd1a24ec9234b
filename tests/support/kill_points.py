"""Loss of power by enumeration: run a function in a child that is killed before its n-th step on the filesystem.

The steps are observed from outside, through the interpreter's audit events, so the code under test has no hooks
of its own. `steps` lists them instead, which is how the order of syncs and renames is checked.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

_FORK = multiprocessing.get_context("fork")
_WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def killed_before_step(number: int, work: Callable[[], object]) -> bool:
    """Run `work` in a child that is killed before step `number` (from 0); False when it ended before."""
    child = _FORK.Process(target=_run, args=(work, number, None))
    child.start()
    child.join(60)
    assert child.exitcode in {0, -signal.SIGKILL}, f"the child ended with {child.exitcode}"
    return child.exitcode != 0


def steps(work: Callable[[], object]) -> list[str]:
    """Run `work` in a child and return its steps: `sync NAME`, `rename NAME NAME`, `open NAME` ..."""
    seen: SimpleQueue[list[str]] = _FORK.SimpleQueue()
    child = _FORK.Process(target=_run, args=(work, sys.maxsize, seen))
    child.start()
    found = seen.get()
    child.join(60)
    return found


def _run(work: Callable[[], object], kill_at: int, report: "SimpleQueue[list[str]] | None") -> None:
    seen: list[str] = []
    watching = True

    def step(line: str) -> None:
        if not watching:
            return
        if len(seen) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(line)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in _WATCHED and not (event == "open" and not _is_write(arguments)):
            paths = arguments[:1] if event == "open" else arguments
            names = [Path(str(path)).name for path in paths if isinstance(path, str | os.PathLike)]
            step(" ".join([event.rpartition(".")[2], *names]))

    def sync(handle: int) -> None:
        step(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        real_sync(handle)

    real_sync, os.fsync = os.fsync, sync
    sys.addaudithook(audit)
    work()
    watching = False
    if report:
        report.put(seen)


def _is_write(arguments: tuple[object, ...]) -> bool:
    path, _, flags = arguments
    # A descriptor that is wrapped into a file object was opened before.
    return not isinstance(path, int) and isinstance(flags, int) and bool(flags & _WRITES)
