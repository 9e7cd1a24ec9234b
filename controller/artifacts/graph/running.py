"""Running graphs that are still in the making, looking inside them, and telling how far one strays from another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from controller.artifacts.behaviour.decisions import decide
from controller.artifacts.graph.sessions import Array, Session, Tensors
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Calibration

ROWS_A_BATCH = 256
SEED = 20_240_229


@dataclass(frozen=True)
class Damage:
    """How far outputs have strayed from those of a reference on the same inputs."""

    disagreement: float
    """Share of rows that are decided otherwise; 0 where outputs name no class."""
    relative_error: float
    """Root of the mean squared difference, over the reference's standard deviation."""

    @property
    def worst(self) -> float:
        """One number to compare by: the disagreement first, the error as a tie-break of a hundredth of its size."""
        return self.disagreement + 0.01 * self.relative_error


def run_model(model: onnx.ModelProto, calibration: Calibration) -> Tensors:
    """Return the outputs for all rows; InvalidInput as `Session` raises it. Not for dynamic quantization's figures."""
    rows = rows_at_once(model) or ROWS_A_BATCH
    return Session(model.SerializeToString()).run_rows(calibration.inputs, rows)


def rows_at_once(model: onnx.ModelProto) -> int | None:
    """Return how many rows the model fixes for a run; None where it leaves them free."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if value.name not in weights and dimensions and dimensions[0].dim_value > 0:
            return int(dimensions[0].dim_value)
    return None


def activations(
    model: onnx.ModelProto, names: Sequence[str], calibration: Calibration, *, rows_max: int = 4096
) -> dict[str, Array]:
    """Return what flows through the named tensors as [rows, channels], at most `rows_max` rows of each.

    Maps [rows, channels, height, width] give one row a place, sequences [rows, steps, channels] one row a step.
    Rows beyond `rows_max` are left out by a seeded choice.
    """
    watched = copy_of(model)
    known = {output.name for output in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    found = run_model(watched, calibration)
    return {name: _sampled(_as_rows(found[name]), rows_max) for name in names}


def damage(reference: Tensors, got: Tensors) -> Damage:
    """Compare outputs of equal shape."""
    before, after = decide(reference), decide(got)
    disagreement = float((before.labels != after.labels).mean()) if before and after else 0.0
    errors = [
        _relative_error(array.astype(np.float64), got[name].astype(np.float64))
        for name, array in reference.items()
        if array.dtype.kind == "f"
    ]
    return Damage(disagreement, max(errors, default=0.0))


def _relative_error(reference: Array, got: Array) -> float:
    spread = float(reference.std()) or 1.0
    return float(np.sqrt(np.mean((got - reference) ** 2))) / spread


def _as_rows(array: Array) -> Array:
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    return array.reshape(-1, array.shape[-1])


def _sampled(rows: Array, rows_max: int) -> Array:
    if len(rows) <= rows_max:
        return rows
    chosen = np.random.default_rng(SEED).choice(len(rows), rows_max, replace=False)
    return rows[np.sort(chosen)]
