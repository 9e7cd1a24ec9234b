"""The self-test: a candidate must answer its golden inputs in a child process before it may serve.

The child takes what a damaged or malicious model can do to a process: exhaust memory, hang, abort. Its limits
are set from outside right after it was started, long before it has imported the engine.
"""

import json
import resource
import sys
from contextlib import suppress
from pathlib import Path

from device_agent.failure import Failure
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import FailureStage
from device_agent.subprocesses import Child, Ended

_ENGINE_BYTES = 1024**3
"""What the interpreter, numpy and the engine with its threads map for themselves, generously."""
_CODES = {3: Code.BEHAVIOUR, 5: Code.MANIFEST_PATH}
"""What the child's status means; every other one means E_LOAD."""


def run_selftest(directory: Path, *, memory_bytes: int, timeout_s: float) -> Failure | None:
    """Return None when the model in `directory` behaves as its manifest says, else why not."""
    child = Child(
        [sys.executable, "-P", "-m", "device_agent.serving.selftest", str(directory)],
        timeout_s=timeout_s,
        environment={"OMP_NUM_THREADS": "1"},
    )
    _limit(child.pid, resource.RLIMIT_DATA, memory_bytes + _ENGINE_BYTES)
    _limit(child.pid, resource.RLIMIT_CPU, int(timeout_s) + 1)
    _limit(child.pid, resource.RLIMIT_CORE, 0)
    return _judge(child.wait(), timeout_s)


def _limit(pid: int, limit: int, most: int) -> None:
    # A child that has ended already tells how when it is waited for.
    with suppress(ProcessLookupError):
        resource.prlimit(pid, limit, (most, most))


def _judge(ended: Ended, timeout_s: float) -> Failure | None:
    if ended.status == 0:
        return None
    if ended.status is None:
        return _failure(Code.LOAD, f"self-test took longer than {timeout_s:g} s")
    message = _message(ended.output) or f"self-test ended with status {ended.status}: {ended.output}"
    return _failure(_CODES.get(ended.status, Code.LOAD), message)


def _failure(code: Code, message: str) -> Failure:
    stage = FailureStage.BEHAVIOUR if code is Code.BEHAVIOUR else FailureStage.LOAD
    return Failure(stage, code, message, refuses=True)


def _message(output: str) -> str | None:
    try:
        return str(json.loads(output.splitlines()[-1])["message"])
    except (ValueError, LookupError, TypeError):
        return None
