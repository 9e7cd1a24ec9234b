"""The command `edgefleet demo`: its options, its folder, and the end of everything that it started."""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from controller.cli.errors import CommandFailed, ExitCode

if TYPE_CHECKING:
    from controller.cli.demo.story import Story

FOLDER = Path(".demo")
AGENTS_LEAST, AGENTS_MOST = 3, 50
WATCH_S = 1.0

Flag = Annotated[bool, Parameter(negative="")]


def demo(
    *,
    once: Flag = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    agents: int = 6,
    keep: Flag = False,
) -> int:
    """Show the whole promise on this machine, in about a minute, with real parts.

    A controller and several agents start as processes of their own. A model is trained, uploaded, compressed,
    signed and brought to the agents; a better version follows in stages; a bad one is stopped and reverted by
    itself. State goes to the folder .demo, which is emptied
    at the start and after a good end; Ctrl-C ends every process.

    Parameters
    ----------
    once
        End after the summary; otherwise everything stays up to be looked at.
    as_json
        Print the result as one JSON object, the last line of stdout; everything else goes to stderr.
    agents
        How many agents.
    keep
        Keep what is in .demo at the end: logs, keys, databases, models.
    """
    if not AGENTS_LEAST <= agents <= AGENTS_MOST:
        raise CommandFailed(f"--agents is {agents}; choose {AGENTS_LEAST} to {AGENTS_MOST}", ExitCode.USAGE)
    try:
        from controller.cli.demo.story import Story
    except ImportError as missing:
        raise CommandFailed(f"the demo needs {missing.name}; install edgefleet[demo]") from missing
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with _own_folder() as folder:
        with Story(folder, agents, quiet_stdout=as_json) as story:
            result = _tell(story)
            if as_json:
                print(json.dumps(result), flush=True)
            if result["ok"] and not once:
                _stay(story)
        if result["ok"] and not keep:
            _empty(folder)
    return ExitCode.OK if result["ok"] else ExitCode.ERROR


def _tell(story: "Story") -> dict[str, Any]:
    try:
        return story.tell()
    except CommandFailed as failure:
        print(f"edgefleet demo: {failure}", file=sys.stderr)
        return {"ok": False, "error": str(failure)}


def _stay(story: "Story") -> None:
    story.say_what_to_try()
    try:
        while True:
            story.require_alive()
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _own_folder() -> Iterator[Path]:
    FOLDER.mkdir(exist_ok=True)
    lock = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise CommandFailed(f"another demo runs in {FOLDER.resolve()}; end it first", ExitCode.CONFLICT) from None
    try:
        _empty(FOLDER)
        yield FOLDER
    finally:
        os.close(lock)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
