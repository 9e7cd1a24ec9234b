"""Comparing a changed graph with the one it came from, on a few inputs: calibration rows, or drawn ones."""

import numpy as np
import onnx

from controller.artifacts.behaviour.golden import draw_rows
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.sessions import Level, Session, Tensors, rows_a_run
from controller.artifacts.steps.interface import Calibration

ROWS = 32


def probe(model: onnx.ModelProto, calibration: Calibration | None, rows: int = ROWS) -> Tensors:
    """Return inputs for one run: the first rows of the calibration data, else drawn ones, the same on every call."""
    specs = describe(model).inputs
    if calibration is None or not len(calibration):
        return draw_rows(specs)
    wanted = rows_a_run(specs) or rows
    return {name: array[:wanted] for name, array in calibration.inputs.items()}


def answers(model: onnx.ModelProto, inputs: Tensors, *, optimised: bool = True) -> Tensors:
    """Return the outputs of one run, with the runtime's graph optimisation or without; raises as `Session`."""
    level = Level.ORT_ENABLE_ALL if optimised else Level.ORT_DISABLE_ALL
    return Session(model.SerializeToString(), level=level).run(inputs)


def difference(reference: Tensors, got: Tensors) -> float:
    """Return the largest difference of any output, over the largest size that output has in the reference.

    Infinity where outputs have other names or shapes, where whole numbers or texts differ, or where only one of two
    values is a finite number.
    """
    if reference.keys() != got.keys():
        return float("inf")
    return max((_difference(array, got[name]) for name, array in reference.items()), default=0.0)


def all_finite(outputs: Tensors) -> bool:
    """Tell whether every number with fractions is finite."""
    return all(bool(np.isfinite(array).all()) for array in outputs.values() if array.dtype.kind == "f")


def _difference(before: np.ndarray, after: np.ndarray) -> float:
    if before.shape != after.shape:
        return float("inf")
    if before.dtype.kind != "f":
        return 0.0 if np.array_equal(before, after) else float("inf")
    finite = np.isfinite(before)
    if not np.array_equal(finite, np.isfinite(after)):
        return float("inf")
    numbers, changed = before[finite].astype(np.float64), after[finite].astype(np.float64)
    largest = float(np.abs(numbers).max(initial=0.0)) or 1.0
    return float(np.abs(numbers - changed).max(initial=0.0)) / largest
