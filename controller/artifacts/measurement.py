"""The measuring job: what a variant costs in a process with the memory and the threads of a class of devices.

    python -m controller.artifacts.measurement MODEL INPUTS THREADS MEMORY_BYTES [LOCK]

INPUTS is the golden file; a run takes its first row, or as many rows as the model fixes, as devices are asked.
MEMORY_BYTES 0 stands for no limit. Started by `jobs.measure` in a confined child.

The limit is RLIMIT_DATA, set after the engine is there and has run once, so that it is the model alone that it
limits: private writable memory, whether touched or not. What the system counts so without it being the model's is
added: the stacks of the engine's threads, and weights in files of their own, which the engine maps, which the
system can drop and read again, and which therefore do not count. A copy that the engine makes of them, as it does
for matrix products, does. A model that cannot be loaded or run within the limit is a finding, not a fault.

Two measurements at once would disturb each other's times: LOCK is a file that one of them holds at a time. What
else the machine does disturbs them too, which is why the quantiles are told beside the median.
"""

import ctypes
import fcntl
import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto, helper

from controller.artifacts.confinement import answer
from controller.artifacts.graph.reading import tensors_of
from controller.artifacts.graph.sessions import Session, Tensors
from controller.artifacts.processor import processor_name
from controller.domain.costs import Cost, DeviceClass, unfit
from controller.domain.errors import InvalidInput

WARM_UP_RUNS = 3
RUNS_LEAST, RUNS_MOST = 20, 200
RUNS_WITHOUT_END = 3
"""So many runs of a model that takes seconds are enough."""
SECONDS_ENOUGH, SECONDS_MOST = 2.0, 30.0
"""After the first, RUNS_LEAST are enough; after the second, RUNS_WITHOUT_END are."""
STACK_BYTES = 8 * 1024**2
"""What a thread of the engine reserves for its stack; it counts as private memory, and is not the model's."""
_CLEAR_PEAK = "5"


@dataclass(frozen=True)
class Memory:
    """What the system says of this process, in bytes."""

    resident: int
    peak: int
    private: int


def read_memory() -> Memory:
    """Read VmRSS, VmHWM and VmData of this process (proc(5))."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    sizes = {words[0]: int(words[1]) * 1024 for words in lines if words and words[0].startswith("Vm")}
    return Memory(sizes["VmRSS:"], sizes["VmHWM:"], sizes["VmData:"])


def measure_file(model: Path, inputs: Tensors, wanted: DeviceClass) -> Cost:
    """Measure a model in this process; one that does not fit the class's memory is told by `fits` and `reason`."""
    mapped_bytes = _mapped_bytes(model)
    _warm_up_engine()
    _settle_memory()
    before = read_memory()
    try:
        with _growing_by_at_most(wanted, before.private + mapped_bytes):
            started_s = time.perf_counter()
            session = Session(model, threads=wanted.threads, as_on_devices=True)
            load_ms = (time.perf_counter() - started_s) * 1000
            times_us = _time_runs(session, session.one_request(inputs))
    except (InvalidInput, MemoryError) as error:
        if wanted.memory_bytes is None:
            raise
        told = error.detail.replace(str(model), model.name) if isinstance(error, InvalidInput) else "out of memory"
        grown_bytes = max(0, read_memory().peak - before.resident)
        reason = (
            f"cannot load and run within {wanted.memory_bytes} bytes of memory, of which it used {grown_bytes} "
            f"when it failed: {told}"
        )
        return unfit(wanted, reason, processor_name())
    after = read_memory()
    p50_us, p90_us, p99_us = (float(value) for value in np.quantile(times_us, (0.5, 0.9, 0.99)))
    return Cost(
        p50_us=p50_us,
        p90_us=p90_us,
        p99_us=p99_us,
        runs=len(times_us),
        load_ms=load_ms,
        peak_bytes=max(0, after.peak - before.resident),
        steady_bytes=max(0, after.resident - before.resident),
        threads=wanted.threads,
        memory_bytes=wanted.memory_bytes,
        fits=True,
        reason=None,
        factor=1.0,
        processor=processor_name(),
    )


def _warm_up_engine() -> None:
    # The first session of a process maps some 10 MB of the engine's own code, which every model would be charged with.
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "empty", sides[:1], sides[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    Session(model.SerializeToString(), as_on_devices=True).run({"x": np.zeros(1, np.float32)})


def _settle_memory() -> None:
    gc.collect()
    # Freed memory that the allocator keeps would be given to the model and not be seen as growth.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
    with suppress(OSError):  # where the peak cannot be reset, it is that of the imports until the model exceeds it
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)


def _mapped_bytes(model: Path) -> int:
    """Return the size of the files beside the model that hold its weights."""
    try:
        tensors = tensors_of(onnx.load(model, load_external_data=False).graph)
    except DecodeError:
        return 0  # whoever loads it next says what is wrong with it
    found = (entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location")
    return sum((model.parent / location).stat().st_size for location in set(found))


@contextmanager
def _growing_by_at_most(wanted: DeviceClass, private_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if wanted.memory_bytes is not None:
        stacks_bytes = (wanted.threads - 1) * STACK_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (private_bytes + stacks_bytes + wanted.memory_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _time_runs(session: Session, feeds: Tensors) -> list[float]:
    for _ in range(WARM_UP_RUNS):
        session.run(feeds)
    times_us: list[float] = []
    gc.disable()
    began_s = time.perf_counter()
    while not _is_enough(len(times_us), time.perf_counter() - began_s):
        started_ns = time.perf_counter_ns()
        session.run(feeds)
        times_us.append((time.perf_counter_ns() - started_ns) / 1000)
    gc.enable()
    return times_us


def _is_enough(runs: int, seconds: float) -> bool:
    if seconds >= SECONDS_MOST:
        return runs >= RUNS_WITHOUT_END
    return runs >= RUNS_MOST or (seconds >= SECONDS_ENOUGH and runs >= RUNS_LEAST)


@contextmanager
def _alone(lock: Path | None) -> Iterator[None]:
    if lock is None:
        yield
        return
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> dict[str, object]:
    """Measure the files named on the command line."""
    model, golden, threads, memory_bytes, *lock = arguments
    with Path(golden).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        inputs = {name.removeprefix("input:"): stored[name] for name in stored.files if name.startswith("input:")}
    with _alone(Path(lock[0]) if lock else None):
        wanted = DeviceClass("measured", int(threads), int(memory_bytes) or None)
        return measure_file(Path(model), inputs, wanted).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
