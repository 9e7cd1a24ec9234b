"""One model in memory: an onnxruntime session with options for small devices, warmed up and measured."""

import ctypes
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from device_agent.protocol.manifest import GOLDEN_FILE, TensorSpec
from device_agent.serving.errors import DataOutside, LoadError, ModelFailed, RequestRefused
from device_agent.serving.golden import read_golden
from device_agent.serving.inference_messages import Signature
from device_agent.serving.tensors import DTYPES, Array, datatype_of

_LOG_FATAL_ONLY = 4
_OUTSIDE = "External data path validation failed"
"""How the runtime begins its refusal of external data at an absolute path, above the model's folder, or behind a link
that leads out of it. It refuses whatever it says; the words only choose the code."""
# What goes wrong is raised, and said once there; the runtime's own log would say it again on stderr.
onnxruntime.set_default_logger_severity(_LOG_FATAL_ONLY)


class LoadedModel:
    """A model that has answered at least once. `run` may be called from any thread until `close`."""

    def __init__(self, session: Any, signature: Signature, *, load_s: float) -> None:
        """Keep the session; `load_model` makes instances."""
        self._session = session
        self.signature = signature
        self.load_s = load_s
        """Seconds that loading took, without the warm-up."""
        self.warm_up_s = 0.0
        """Seconds of one warm run with one row."""
        self.memory_bytes = 0
        """By how much the process grew while the model was loaded and warmed up."""

    def run(self, outputs: list[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Return the named outputs for feeds that fit the signature.

        Raises RequestRefused(400) where the runtime finds the feeds at odds with each other, ModelFailed for
        everything else that it raises.
        """
        try:
            results: list[Array] = self._session.run(outputs, feeds)
        except InvalidArgument as error:
            raise RequestRefused(400, f"the inputs do not fit together: {error}") from error
        except Exception as error:  # the runtime's exceptions have no other common ancestor
            raise ModelFailed(f"the model failed: {error}") from error
        return results

    def close(self) -> None:
        """Give the memory back; takes milliseconds for large models, so keep it off the event loop."""
        self._session = None
        _trim_heap()


def load_model(path: Path, *, threads: int = 1) -> LoadedModel:
    """Load the model at `path` and run it, with the first golden row of its directory or else with zeros.

    `threads` threads work on one run, the caller's included. Loading is given the path, not bytes: the runtime
    then maps external data and releases the interpreter lock, so that other threads keep answering. Raises LoadError.
    """
    before_bytes, started_s = resident_bytes(), time.perf_counter()
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), _session_options(threads), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # see LoadedModel.run
        kind = DataOutside if _OUTSIDE in str(error) else LoadError
        raise kind(f"{path.name} cannot be loaded: {error}") from error
    signature = Signature(_specs(session.get_inputs(), "input"), _specs(session.get_outputs(), "output"))
    model = LoadedModel(session, signature, load_s=time.perf_counter() - started_s)
    model.warm_up_s = _warm_up(model, path.with_name(GOLDEN_FILE))
    model.memory_bytes = max(0, resident_bytes() - before_bytes)
    return model


def _session_options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads doubled the processor time of a request on two cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Arenas never shrink: after a switch they would keep the memory of the old model.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    return options


def _specs(nodes: list[Any], kind: str) -> dict[str, TensorSpec]:
    specs = {}
    for node in nodes:
        datatype = datatype_of(node.type)
        if datatype is None:
            raise LoadError(f"{kind} {node.name!r} is a {node.type}; expected a tensor of {', '.join(DTYPES)}")
        shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
        specs[node.name] = TensorSpec(node.name, datatype, shape)
    return specs


def _warm_up(model: LoadedModel, golden: Path) -> float:
    feeds = _one_row(model.signature, golden)
    outputs = list(model.signature.outputs)
    try:
        # The first run allocates and is not typical; the second is what a request will see.
        model.run(outputs, feeds)
        started_s = time.perf_counter()
        model.run(outputs, feeds)
    except (RequestRefused, ModelFailed) as error:
        raise LoadError(f"the warm-up failed: {error}") from error
    return time.perf_counter() - started_s


def _one_row(signature: Signature, golden: Path) -> dict[str, Array]:
    if not golden.exists():
        return {spec.name: _zeros(spec) for spec in signature.inputs.values()}
    rows = read_golden(golden).inputs
    missing = signature.inputs.keys() - rows.keys()
    if missing:
        raise LoadError(f"{golden.name} has no values for {sorted(missing)}")
    return {
        spec.name: rows[spec.name][:1] if spec.shape[:1] == (-1,) else rows[spec.name]
        for spec in signature.inputs.values()
    }


def _zeros(spec: TensorSpec) -> Array:
    shape = [max(size, 1) if size < 0 else size for size in spec.shape]
    return np.full(shape, "" if spec.datatype == "BYTES" else 0, DTYPES[spec.datatype])


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _trim_heap() -> None:
    # glibc keeps freed memory; other C libraries have no such call and need none.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
