"""How much resident memory a process grows by when it loads a model and answers one row.

    python -m ops.benchmarks.resident INPUTS

Reads paths of models from standard input, a line each, and answers each with the growth in bytes. Every model is
loaded in a process of its own, forked from this one, which has the engine in memory and has never run it: that is as
fresh as a new interpreter and starts in a hundredth of the time. A session of one node comes first, so that the
engine's own pages are not counted as the model's.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnx
from onnx import TensorProto, helper

from controller.artifacts.graph.sessions import Session, Tensors
from controller.artifacts.measurement import read_memory

RUNS = 3


class ResidentMemory:
    """The process that forks, from the side of whoever asks it. Leaving the context ends it."""

    def __init__(self, inputs: Path) -> None:
        """Start it; `inputs` is an `.npz` with one row for each input of the models."""
        command = [sys.executable, "-m", "ops.benchmarks.resident", str(inputs)]
        # Threads of the linear algebra library would not survive a fork.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def growth_bytes(self, model: Path) -> int:
        """Return the growth for one model; RuntimeError when its process failed."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{model}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline().strip()
        if not line or line == "failed":
            raise RuntimeError(f"{model} could not be loaded and run in a process of its own")
        return int(line)


def _growth_bytes(model: str, inputs: Tensors) -> int:
    Session(_smallest_model(), as_on_devices=True).run({"x": np.zeros(1, np.float32)})
    # Memory that was freed and kept would be given to the model unseen.
    ctypes.CDLL(None).malloc_trim(0)
    before = read_memory().resident
    session = Session(Path(model), as_on_devices=True)
    for _ in range(RUNS):
        session.run(inputs)
    return max(os.sysconf("SC_PAGE_SIZE"), read_memory().resident - before)


def _smallest_model() -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "smallest", ends[:1], ends[1:])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized


def _in_a_process_of_its_own(model: str, inputs: Tensors) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(_growth_bytes(model, inputs)).encode())
        finally:
            # Without an interpreter's usual end, which would wait for what only the forking process has.
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    os.waitpid(child, 0)
    return answer or "failed"


def main() -> None:
    """Answer until standard input ends."""
    with np.load(sys.argv[1], allow_pickle=False) as stored:
        inputs = {name.removeprefix("input:"): stored[name] for name in stored.files}
    for line in sys.stdin:
        print(_in_a_process_of_its_own(line.rstrip("\n"), inputs), flush=True)


if __name__ == "__main__":
    main()
