"""Evaluation and calibration data: `.npz` files with inputs and labels, read without trust.

    inputs          one row a sample, for a model with one input
    input:NAME      instead, for a model with several inputs: one array for each
    labels          of evaluation data, may be left out:
                    one whole number a sample: the class, counted from 0
                    or numbers with fractions, one row a sample: what a regression should answer

Codes: `evaluation_format`, `evaluation_dtype`, `evaluation_shape`, `evaluation_labels`, and for calibration data
the first three with `calibration_`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.artifacts.behaviour.arrays import CALIBRATION, EVALUATION, Origin, read_arrays
from controller.artifacts.graph.sessions import Array, Tensors, rows_a_run
from controller.artifacts.steps.interface import Calibration
from device_agent.protocol.manifest import TensorSpec

LABELS = "labels"
DTYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
"""Datatype of the Open Inference Protocol to numpy's."""


@dataclass(frozen=True)
class Samples:
    """Inputs of a model, row by row, with their labels where there are any."""

    inputs: Tensors
    labels: Array | None
    """Classes, int64 [rows], or what a regression should answer, float64 [rows, ...]."""
    rows_a_run: int
    """How many rows the model takes at once; 1 where it is free."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def classes(self) -> Array | None:
        """The labels, where they are classes."""
        return self.labels if self.labels is not None and self.labels.dtype.kind in "iu" else None

    @property
    def numbers(self) -> Array | None:
        """The labels, where they are what a regression should answer."""
        return self.labels if self.labels is not None and self.labels.dtype.kind == "f" else None

    def take(self, rows: Array) -> "Samples":
        """Return the rows with these numbers, in this order."""
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return Samples(inputs, None if self.labels is None else self.labels[rows], self.rows_a_run)

    def first_run(self) -> "Samples":
        """Return the rows that the model takes first."""
        return self.take(np.arange(self.rows_a_run))


def read_samples(path: Path, specs: tuple[TensorSpec, ...]) -> Samples:
    """Return the samples, checked against the model's inputs; InvalidInput names the array that does not fit."""
    arrays = read_arrays(path, EVALUATION)
    labels = _labels(arrays)
    inputs = _inputs(arrays, specs, EVALUATION)
    if labels is None:
        _refuse_unread(arrays, specs)
    else:
        _refuse_unequal_rows(inputs, LABELS, len(labels), EVALUATION)
    return Samples(inputs, labels, _rows_a_run(inputs, specs, EVALUATION))


def read_inputs(path: Path, specs: tuple[TensorSpec, ...]) -> Calibration:
    """Return unlabelled inputs, checked in the same way; whatever else the file holds is not looked at."""
    inputs = _inputs(read_arrays(path, CALIBRATION), specs, CALIBRATION)
    return Calibration(inputs, _rows_a_run(inputs, specs, CALIBRATION))


def split(samples: Samples) -> tuple[Calibration, Samples]:
    """Return what a variant may learn from and what it is judged on, when one file has to serve for both.

    Of the runs in their order, those with an even index calibrate and those with an odd one judge. Runs of one row
    with a class are counted within their class, so that a file whose classes come by turns is halved in every one.
    InvalidInput(`evaluation_shape`) for fewer than two runs.
    """
    runs = np.arange(len(samples)).reshape(-1, samples.rows_a_run)
    if len(runs) < 2:
        raise EVALUATION.refused(
            "shape",
            f"{len(samples)} rows cannot be halved to calibrate on one part and judge by the other; give more rows, or "
            "calibration data of their own",
        )
    if samples.rows_a_run == 1 and samples.classes is not None:
        runs = runs[np.argsort(samples.classes, kind="stable")]
    learnt, judged = (np.sort(runs[start::2], axis=0).reshape(-1) for start in (0, 1))
    calibration = samples.take(learnt)
    return Calibration(calibration.inputs, samples.rows_a_run), samples.take(judged)


def refuse_labels_beyond(samples: Samples, classes: int | None) -> None:
    """Raise InvalidInput when a label names a class that the model cannot answer; None: any class may be."""
    if samples.classes is None or classes is None:
        return
    highest = int(samples.classes.max())
    if highest >= classes:
        told = f"a label is {highest}; the model tells {classes} classes apart, 0 to {classes - 1}"
        raise EVALUATION.refused("labels", told)


def _labels(arrays: Tensors) -> Array | None:
    labels = arrays.get(LABELS)
    if labels is None:
        return None
    if labels.dtype.kind == "f":
        return _numbers(labels)
    if labels.dtype.kind not in "iu":
        raise EVALUATION.refused(
            "dtype", f"{LABELS!r} is {labels.dtype}; expected whole numbers for classes, or floats for a regression"
        )
    if labels.ndim != 1 or not len(labels):
        raise EVALUATION.refused(
            "shape", f"{LABELS!r} has shape {list(labels.shape)}; expected one class a sample, or floats"
        )
    if labels.min() < 0:
        raise EVALUATION.refused("labels", f"a label is {int(labels.min())}; classes count from 0")
    return labels.astype(np.int64)


def _numbers(labels: Array) -> Array:
    if not labels.ndim or not labels.size:
        raise EVALUATION.refused("shape", f"{LABELS!r} has shape {list(labels.shape)}; expected one row a sample")
    if not np.isfinite(labels).all():
        raise EVALUATION.refused("labels", f"{LABELS!r} holds values that are not finite numbers")
    return labels.astype(np.float64)


def _refuse_unread(arrays: Tensors, specs: tuple[TensorSpec, ...]) -> None:
    # Without labels a variant is judged more mildly: that must not happen by a misspelt name.
    unread = sorted(arrays.keys() - {"inputs"} - {f"input:{spec.name}" for spec in specs})
    if unread:
        told = f"the array {LABELS!r} is missing, and {', '.join(map(repr, unread))} is nothing that is known"
        raise EVALUATION.refused("format", f"{told}; rename it, or leave it out to evaluate without labels")


def _inputs(arrays: Tensors, specs: tuple[TensorSpec, ...], origin: Origin) -> Tensors:
    inputs = {spec.name: _input(arrays, spec, origin, alone=len(specs) == 1) for spec in specs}
    first, rows = next((name, len(array)) for name, array in inputs.items())
    _refuse_unequal_rows(inputs, first, rows, origin)
    if not rows:
        raise origin.refused("shape", f"{first!r} has no rows")
    return inputs


def _refuse_unequal_rows(inputs: Tensors, other: str, rows: int, origin: Origin) -> None:
    for name, array in inputs.items():
        if len(array) != rows:
            raise origin.refused("shape", f"{name!r} has {len(array)} rows and {other!r} has {rows}")


def _rows_a_run(inputs: Tensors, specs: tuple[TensorSpec, ...], origin: Origin) -> int:
    run, rows = rows_a_run(specs) or 1, len(next(iter(inputs.values())))
    if rows % run:
        raise origin.refused("shape", f"the model takes {run} rows at a time; {rows} is no multiple of it")
    return run


def _input(arrays: Tensors, spec: TensorSpec, origin: Origin, *, alone: bool) -> Array:
    names = [f"input:{spec.name}", *(["inputs"] if alone else [])]
    found = next((name for name in names if name in arrays), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        raise origin.refused("format", f"the array {wanted} is missing; the file has {sorted(arrays)}")
    array, dtype = arrays[found], DTYPES[spec.datatype]
    if array.dtype != np.dtype(dtype):
        raise origin.refused("dtype", f"{found!r} is {array.dtype}; the model takes {dtype}: .astype({dtype!r})")
    sizes_fit = all(got == wanted for got, wanted in zip(array.shape[1:], spec.shape[1:], strict=False) if wanted >= 0)
    if array.ndim != len(spec.shape) or not array.ndim or not sizes_fit:
        shape = ["rows", *("any" if size < 0 else size for size in spec.shape[1:])]
        raise origin.refused("shape", f"{found!r} has shape {list(array.shape)}; the model takes {shape}")
    return array
