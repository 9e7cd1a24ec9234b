"""The parent's side of a job: run a module in a confined child, wait for it, read what it found.

Models are hostile until shown otherwise, and compressing them takes memory and minutes: none of it happens in a
process that serves anybody. The child has its own process group, which is killed on any way out.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from controller.artifacts.errors import JobFailed
from controller.artifacts.progress import PROGRESS_VARIABLE, ProgressPipe
from controller.domain.errors import InvalidInput

OUTPUT_BYTES_MAX = 4 * 1024 * 1024
"""More than any honest result: what a child prints beyond it is not read."""
TOLD_BYTES_MAX = 2000
LOOK_S = 1.0
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Limits:
    """What one job may use."""

    timeout_s: float
    memory_bytes: int
    setting: str = "job_timeout_s"
    """Which setting the time comes from, for whoever has to raise it."""

    @property
    def cpu_s(self) -> int:
        """Processor time: more than a job on every core can use before its timeout."""
        return math.ceil(self.timeout_s) * (os.cpu_count() or 1)


@dataclass(frozen=True)
class Finished:
    """How a child ended: its exit code (negative: the signal) and what it printed."""

    exit_code: int
    output: str
    errors: str


def _hear_nothing(*_told: object) -> None:
    """Be a listener for callers that do not care."""


@dataclass(frozen=True)
class Heartbeat:
    """Something to do every `every_s` seconds while a child runs, and for what it says; an exception ends the child."""

    beat: Callable[[], None]
    every_s: float
    told: Callable[[float, str], None] = _hear_nothing
    """Called with the share that is done (0 to 1) and words, for each line of progress."""
    printed: Callable[[str], None] = _hear_nothing
    """Called once, at the child's end, with the last of what it printed on standard error."""


NO_HEARTBEAT = Heartbeat(lambda: None, every_s=60.0)


def run_job(module: str, arguments: Sequence[str | Path], limits: Limits, heartbeat: Heartbeat) -> dict[str, Any]:
    """Run a module that ends with `confinement.answer`; return its result.

    InvalidInput is what the child refused; JobFailed when it ended without an answer.
    """
    return result_of(module, run_confined(module, arguments, limits, heartbeat), limits)


def result_of(module: str, finished: Finished, limits: Limits) -> dict[str, Any]:
    """Return the result of a module that has ended; raises as `run_job`."""
    if finished.exit_code != 0:
        raise JobFailed(f"{module} {_manner_of(finished, limits)}")
    try:
        outcome: dict[str, Any] = json.loads(finished.output)
    except ValueError as error:
        if len(finished.output.encode()) >= OUTPUT_BYTES_MAX:
            raise JobFailed(f"{module} cannot be heard: its answer is longer than {OUTPUT_BYTES_MAX} bytes") from error
        raise JobFailed(f"{module} ended without an answer: {finished.errors.strip()[-200:]}") from error
    if "refused" in outcome:
        refused = outcome["refused"]
        raise InvalidInput(refused["detail"], code=refused["code"], field=refused["field"])
    result: dict[str, Any] = outcome["result"]
    return result


def run_confined(module: str, arguments: Sequence[str | Path], limits: Limits, heartbeat: Heartbeat) -> Finished:
    """Run any module under limits and wait for its end; JobFailed when it takes too long."""
    confinement = [str(os.getpid()), str(limits.memory_bytes), str(limits.cpu_s)]
    command = [sys.executable, "-m", "controller.artifacts.confinement", *confinement, module, *map(str, arguments)]
    progress = ProgressPipe()
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, progress:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **_ONE_THREAD, PROGRESS_VARIABLE: str(progress.writing)},
            pass_fds=(progress.writing,),
            start_new_session=True,
        )
        try:
            progress.close_writing()
            exit_code = _wait(child, module, limits, heartbeat, progress)
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            said = _read_end(errors, TOLD_BYTES_MAX)
            heartbeat.printed(said)
        return Finished(exit_code, _read(output, OUTPUT_BYTES_MAX), said)


def _wait(
    child: subprocess.Popen[bytes], module: str, limits: Limits, heartbeat: Heartbeat, progress: ProgressPipe
) -> int:
    now_s = time.monotonic()
    deadline_s, beat_s = now_s + limits.timeout_s, now_s + heartbeat.every_s
    while True:
        now_s = time.monotonic()
        if now_s >= deadline_s:
            raise JobFailed(f"{module} was ended after {limits.timeout_s:g} s ({limits.setting})")
        if now_s >= beat_s:
            heartbeat.beat()
            beat_s = now_s + heartbeat.every_s
        # A child that says nothing for so long may have ended while something that it started holds the pipe.
        for share, words in progress.lines(wait_s=min(beat_s - now_s, deadline_s - now_s, LOOK_S)):
            heartbeat.told(share, words)
        exit_code = child.poll() if progress.is_open else _end_of(child, min(beat_s, deadline_s))
        if exit_code is not None:
            return exit_code


def _end_of(child: subprocess.Popen[bytes], until_s: float) -> int | None:
    try:
        return child.wait(max(0.0, until_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _manner_of(finished: Finished, limits: Limits) -> str:
    if finished.exit_code < 0:
        name = signal.Signals(-finished.exit_code).name
        return (
            f"was ended by {name}; it may use {limits.memory_bytes} bytes of memory and {limits.cpu_s} s of processor"
        )
    told = finished.errors.strip().splitlines()
    return f"failed: {told[-1] if told else f'exit code {finished.exit_code}'}"


def _read(stream: IO[bytes], bytes_max: int) -> str:
    stream.seek(0)
    return stream.read(bytes_max).decode(errors="replace")


def _read_end(stream: IO[bytes], bytes_max: int) -> str:
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size_bytes - bytes_max))
    return stream.read().decode(errors="replace")
