"""Evaluation data: an `.npz` file with inputs and labels, read without trust.

    inputs          one row a sample, for a model with one input
    input:NAME      instead, for a model with several inputs: one array for each
    labels          one whole number a sample: the class, counted from 0

Codes: `evaluation_format`, `evaluation_dtype`, `evaluation_shape`, `evaluation_labels`. Nothing is unpickled.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.artifacts.graph.sessions import Array, Tensors, rows_a_run
from controller.domain.errors import InvalidInput
from device_agent.protocol.manifest import TensorSpec

EVALUATION_FIELD = "/evaluation_sha256"
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
    """Inputs of a model with their labels, row by row."""

    inputs: Tensors
    labels: Array
    rows_a_run: int
    """How many rows the model takes at once; 1 where it is free."""

    def __len__(self) -> int:
        return len(self.labels)


def read_samples(path: Path, specs: tuple[TensorSpec, ...]) -> Samples:
    """Return the samples, checked against the model's inputs; InvalidInput names the array that does not fit."""
    arrays = _read_arrays(path)
    labels = _labels(arrays)
    inputs = {spec.name: _input(arrays, spec, alone=len(specs) == 1) for spec in specs}
    for name, array in inputs.items():
        if len(array) != len(labels):
            raise refused("evaluation_shape", f"{name!r} has {len(array)} rows and {LABELS!r} has {len(labels)}")
    run = rows_a_run(specs) or 1
    if len(labels) % run:
        raise refused("evaluation_shape", f"the model takes {run} rows at a time; {len(labels)} is no multiple of it")
    return Samples(inputs, labels, run)


def refuse_labels_beyond(samples: Samples, classes: int | None) -> None:
    """Raise InvalidInput when a label names a class that the model cannot answer; None: any class may be."""
    highest = int(samples.labels.max())
    if classes is not None and highest >= classes:
        raise refused(
            "evaluation_labels", f"a label is {highest}; the model tells {classes} classes apart, 0 to {classes - 1}"
        )


def refused(code: str, detail: str) -> InvalidInput:
    """Return the refusal of evaluation data."""
    return InvalidInput(f"evaluation data: {detail}", code=code, field=EVALUATION_FIELD)


def _read_arrays(path: Path) -> Tensors:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise refused(
            "evaluation_format",
            f"the file is not an .npz of plain arrays ({error}); write it with "
            "numpy.savez_compressed(path, inputs=..., labels=...)",
        ) from error


def _labels(arrays: Tensors) -> Array:
    labels = arrays.get(LABELS)
    if labels is None:
        raise refused("evaluation_format", f"the array {LABELS!r} is missing; the file has {sorted(arrays)}")
    if labels.dtype.kind not in "iu":
        raise refused("evaluation_dtype", f"{LABELS!r} is {labels.dtype}; expected whole numbers, such as int64")
    if labels.ndim != 1 or not len(labels):
        raise refused("evaluation_shape", f"{LABELS!r} has shape {list(labels.shape)}; expected one class a sample")
    if labels.min() < 0:
        raise refused("evaluation_labels", f"a label is {int(labels.min())}; classes count from 0")
    return labels.astype(np.int64)


def _input(arrays: Tensors, spec: TensorSpec, *, alone: bool) -> Array:
    names = [f"input:{spec.name}", *(["inputs"] if alone else [])]
    found = next((name for name in names if name in arrays), None)
    if found is None:
        wanted = " or ".join(map(repr, names))
        raise refused("evaluation_format", f"the array {wanted} is missing; the file has {sorted(arrays)}")
    array, dtype = arrays[found], DTYPES[spec.datatype]
    if array.dtype != np.dtype(dtype):
        raise refused("evaluation_dtype", f"{found!r} is {array.dtype}; the model takes {dtype}: .astype({dtype!r})")
    sizes_fit = all(got == wanted for got, wanted in zip(array.shape[1:], spec.shape[1:], strict=False) if wanted >= 0)
    if array.ndim != len(spec.shape) or not sizes_fit:
        shape = ["rows", *("any" if size < 0 else size for size in spec.shape[1:])]
        raise refused("evaluation_shape", f"{found!r} has shape {list(array.shape)}; the model takes {shape}")
    return array
