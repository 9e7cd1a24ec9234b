"""Running a model on the runtime that devices use, row by row as their requests come."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from controller.artifacts.graph.reading import refused
from controller.domain.errors import InvalidInput
from device_agent.protocol.manifest import TensorSpec

Array = npt.NDArray[Any]
Tensors = dict[str, Array]
"""Arrays by the name of the input or output they belong to; rows along the first axis."""
Level = onnxruntime.GraphOptimizationLevel

_LOG_FATAL_ONLY = 4
_NO_MEMORY = re.compile("Failed to allocate memory|bad_alloc|would require more than [0-9]+ bytes")
"""The runtime's words for it."""
onnxruntime.set_default_logger_severity(_LOG_FATAL_ONLY)


class Session:
    """A loaded model."""

    def __init__(
        self, source: Path | bytes, *, level: Any = Level.ORT_ENABLE_ALL, threads: int = 1, as_on_devices: bool = False
    ) -> None:
        """Load a file, or a serialized model; `as_on_devices` with the options of a device's inference process.

        InvalidInput(`unknown_operator`, `unsupported_opset`, `too_much_memory`, `not_loadable`) when it cannot be
        loaded.
        """
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if as_on_devices:
            _set_device_options(options)
        try:
            loaded = source if isinstance(source, bytes) else str(source)
            self._session = onnxruntime.InferenceSession(loaded, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions have no other common ancestor
            told = str(error) if isinstance(source, bytes) else str(error).replace(str(source), "the file")
            raise _not_loadable(told) from error
        self.outputs = [node.name for node in self._session.get_outputs()]
        self.input_types: dict[str, str] = {node.name: node.type for node in self._session.get_inputs()}

    def one_request(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return the first row of each input, or all that the model fixes: what a device is asked at a time."""
        return {
            node.name: inputs[node.name][:1] if node.shape and not isinstance(node.shape[0], int) else inputs[node.name]
            for node in self._session.get_inputs()
        }

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        """Run all rows at once; InvalidInput(`not_runnable`, `too_much_memory`) when the model cannot."""
        try:
            results = self._session.run(self.outputs, dict(inputs))
        except Exception as error:  # as above
            raise _not_runnable(str(error)) from error
        return dict(zip(self.outputs, results, strict=True))

    def run_rows(self, inputs: Mapping[str, Array], rows_a_run: int) -> Tensors:
        """Run `rows_a_run` rows at a time and join the answers.

        Devices are mostly asked about one row. It matters: dynamic quantization takes its scales from all rows of
        a run, so the same row is answered differently in company.
        """
        rows = len(next(iter(inputs.values())))
        answers = [
            self.run({name: array[start : start + rows_a_run] for name, array in inputs.items()})
            for start in range(0, rows, rows_a_run)
        ]
        return {name: np.concatenate([np.atleast_1d(answer[name]) for answer in answers]) for name in self.outputs}


def _set_device_options(options: Any) -> None:
    # What `device_agent/serving/session.py` sets: a controller that measures otherwise measures something else.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False


def rows_a_run(inputs: tuple[TensorSpec, ...]) -> int | None:
    """Return how many rows the inputs fix for a run, None where they leave it free.

    InvalidInput where the inputs have no common first dimension, so that rows mean nothing.
    """
    firsts = {spec.shape[0] if spec.shape else 0 for spec in inputs}
    if len(firsts) != 1 or firsts == {0}:
        told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
        raise refused("unsupported_signature", f"the inputs have no common first dimension for rows: {told}")
    (first,) = firsts
    return None if first < 0 else first


def _not_loadable(told: str) -> InvalidInput:
    reason = _first_line(told)
    version = onnxruntime.__version__
    if _NO_MEMORY.search(told):
        return _too_large(reason)
    if "is not a registered function/op" in told or "No Op registered" in told or "NOT_IMPLEMENTED" in told:
        return refused("unknown_operator", f"onnxruntime {version} lacks an operator of the model: {reason}")
    if "opset" in told.lower() or "IR version" in told:
        return refused(
            "unsupported_opset", f"onnxruntime {version} does not know the model's opset: {reason}; export for an older"
        )
    return refused("not_loadable", f"onnxruntime {version} cannot load the model: {reason}")


def _not_runnable(told: str) -> InvalidInput:
    if _NO_MEMORY.search(told):
        return _too_large(_first_line(told))
    return refused("not_runnable", f"the model fails on its inputs: {_first_line(told)}")


def _too_large(reason: str) -> InvalidInput:
    told = f"the model asks for more memory than a job may use (job_memory_bytes): {reason}"
    return refused("too_much_memory", told)


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[0][:400]
