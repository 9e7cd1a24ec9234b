"""Golden tensors: inputs with the outputs that a variant must give for them on every device, within a tolerance.

Rows come from the evaluation data, from every class in turn and the closest decisions first, for that is where a
wrong answer shows, or spread over the range where there are no classes; without evaluation data they are drawn from
a seeded generator. All rows are run at once, here and on the device, because dynamic quantization takes its scales
from all rows of a run.

The tolerance is measured. The rows are run with graph optimisation off and on, on one thread and on two, and with
every input moved to the next number that its type can hold, which stands for other processors' last bits:

    absolute_tolerance = max(SAFETY * largest difference, FLOOR * largest output)
    relative_tolerance = FLOOR
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from controller.artifacts.behaviour.decisions import Decisions
from controller.artifacts.behaviour.samples import DTYPES, Samples
from controller.artifacts.graph.reading import refused
from controller.artifacts.graph.sessions import Array, Level, Session, Tensors
from device_agent.protocol.manifest import TensorSpec

ROWS_MAX = 32
GOLDEN_BYTES_MAX = 1024 * 1024
"""Golden inputs are downloaded with every variant: large inputs get fewer rows."""
GENERATED_SIZE = 16
"""What a free dimension is taken as when inputs are drawn."""
SEED = 20_240_229
SAFETY = 4.0
FLOOR = 1e-3
"""Processors and batch sizes change the last bits of results; a thousandth is above that and below a fault."""


@dataclass(frozen=True)
class Golden:
    """Golden tensors with their tolerance."""

    inputs: Tensors
    outputs: Tensors
    absolute_tolerance: float
    relative_tolerance: float

    @property
    def rows(self) -> int:
        """How many rows the inputs have."""
        return max((len(array) for array in self.inputs.values() if array.ndim), default=1)

    def write(self, path: Path) -> None:
        """Write the arrays as `input:NAME` and `output:NAME`."""
        arrays = {f"input:{name}": array for name, array in self.inputs.items()}
        arrays |= {f"output:{name}": array for name, array in self.outputs.items()}
        np.savez_compressed(path, allow_pickle=False, **arrays)


def make_golden(model: Path, inputs: Tensors) -> Golden:
    """Run the model on the inputs under every setting; InvalidInput(`not_finite`) for answers without a value."""
    outputs = Session(model).run(inputs)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise refused("not_finite", f"the output {name!r} holds values that are not finite numbers")
    largest = max((float(np.abs(array).max(initial=0.0)) for array in _numbers(outputs)), default=0.0)
    absolute = max(SAFETY * _largest_difference(model, inputs, outputs), FLOOR * largest, FLOOR**2)
    return Golden(inputs, outputs, absolute, FLOOR)


def choose_rows(samples: Samples, decisions: Decisions | None, rows_at_once: int | None = None) -> Tensors:
    """Return golden inputs out of the samples: every class in turn, in each the closest decision first.

    `rows_at_once` is how many rows the model fixes for a run; None where it leaves them free.

    Samples without a class are taken for what the model decides. Where it decides nothing (None), rows are spread
    evenly over the range of the first number of their labels, or without labels over the file.
    """
    wanted = rows_at_once or _rows_that_fit(samples.inputs)
    order = _evenly_spread(samples, wanted) if decisions is None else _in_turn(samples, decisions)
    return samples.take(np.sort(order[:wanted])).inputs


def draw_rows(specs: Iterable[TensorSpec]) -> Tensors:
    """Return inputs of the right form, the same on every call; whole numbers are 0 or 1, safe as an index."""
    generator = np.random.default_rng(SEED)
    drawn = {}
    for spec in specs:
        shape = [GENERATED_SIZE if size < 0 else size for size in spec.shape]
        dtype = np.dtype(DTYPES[spec.datatype])
        values = generator.normal(size=shape) if dtype.kind == "f" else generator.integers(0, 2, shape)
        drawn[spec.name] = np.asarray(values).astype(dtype)
    return drawn


def _in_turn(samples: Samples, decisions: Decisions) -> Array:
    classes = decisions.labels if samples.classes is None else samples.classes
    closest_first = np.lexsort((np.arange(len(samples)), decisions.margins))
    by_class = [closest_first[classes[closest_first] == label] for label in np.unique(classes)]
    return np.array([row for rows in itertools.zip_longest(*by_class) for row in rows if row is not None])


def _evenly_spread(samples: Samples, wanted: int) -> Array:
    rows = len(samples)
    by = np.arange(rows) if samples.numbers is None else samples.numbers.reshape(rows, -1)[:, 0]
    places = np.linspace(0, rows - 1, min(wanted, rows)).round().astype(np.int64)
    return np.argsort(by, kind="stable")[places]


def _rows_that_fit(inputs: Tensors) -> int:
    row_bytes = sum(array[:1].nbytes for array in inputs.values())
    return min(ROWS_MAX, max(1, GOLDEN_BYTES_MAX // max(1, row_bytes)))


def _largest_difference(model: Path, inputs: Tensors, wanted: Tensors) -> float:
    nudged = {name: _nudged(array) for name, array in inputs.items()}
    answers = [
        Session(model, level=level, threads=threads).run(inputs)
        for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL)
        for threads in (1, 2)
    ]
    answers.append(Session(model).run(nudged))
    return max(
        float(np.abs(got.astype(np.float64) - array.astype(np.float64)).max(initial=0.0))
        for answer in answers
        for got, array in zip(_numbers(answer), _numbers(wanted), strict=True)
    )


def _nudged(array: Array) -> Array:
    # Of an array without dimensions numpy makes a number, which the runtime does not take.
    return np.asarray(np.nextafter(array, array.dtype.type(np.inf))) if array.dtype.kind == "f" else array


def _numbers(tensors: Tensors) -> list[Array]:
    # Classes are compared exactly by nature of their rounding; only fractions have a tolerance worth measuring.
    return [array for array in tensors.values() if array.dtype.kind == "f"]
