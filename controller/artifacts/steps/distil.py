"""Train a small dense network on what the source answers, without a training framework.

scikit-learn's MLPRegressor (ReLU, Adam, squared error) learns the teacher's outputs on calibration rows and on changed
copies of them; `behaviour/teachers.py` has what is learnt, `behaviour/augmentation.py` the copies. Inputs and targets
are standardised for training, and that is folded into the first and the last layer, so the student takes and gives
what the teacher does.

It pays where the source is much larger than its task, and where labels are few and unlabelled inputs many. Where labels
are plenty, a network of the same size trained on them may do as well.
"""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx

from controller.artifacts.behaviour.teachers import ENDINGS, Lesson, Likeness, prepare
from controller.artifacts.graph.sessions import Array
from controller.artifacts.graph.students import Dense, dense_student
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable, needed
from controller.artifacts.steps.parameters import Distil

LEARNING_RATE = 2e-3
BATCHES_AN_EPOCH = 32
"""Where rows are few, batches are small, so that an epoch has steps enough to get anywhere."""
ROWS_A_BATCH_MIN, ROWS_A_BATCH_MAX = 16, 200
CONSTANT = 1e-6
"""A feature whose spread is below this share of its size does not vary; dividing by it would be dividing by noise."""


@dataclass(frozen=True)
class _Student:
    hidden: tuple[int, ...]
    layers: list[Dense]
    model: onnx.ModelProto
    likeness: Likeness
    loss: float
    """Of the last epoch: half the squared error of standardised targets, and the weights' decay."""
    epochs: int

    def facts(self) -> dict[str, Any]:
        return {
            "hidden": list(self.hidden),
            "parameters": sum(layer.parameters for layer in self.layers),
            "bytes": self.model.ByteSize(),
            **asdict(self.likeness),
            "loss": self.loss,
            "epochs": self.epochs,
        }

    def words(self, held_back: int) -> str:
        facts = self.facts()
        return (
            f"hidden {facts['hidden']}, {facts['parameters']} parameters, {facts['bytes']} bytes: agreement "
            f"{facts['agreement']:.4f} on {held_back} rows held back"
        )


def apply(model: onnx.ModelProto, parameters: Distil, calibration: Calibration | None, tell: Tell) -> Applied:
    """Return the smallest student of `hidden` and `search` that agrees often enough, else the one that agrees most.

    The teacher has one FP32 input of fixed size and one FP32 output of a vector a row; beside it may be an INT64 label,
    which the student names by the largest score. All else is refused. Facts: `learnt` (what the output was taken for),
    `temperature`, numbers of rows, `image` (how rows were moved), `tried` (sizes with parameters, bytes, agreement,
    relative error, loss and epochs), `hidden` (the chosen), `reached` (whether it agrees as asked), `layers`.
    """
    given = needed(calibration, "distil")
    lesson = prepare(model, given, step="distil", copies=parameters.augment, seed=parameters.seed)
    sizes = _sizes(lesson, parameters)
    tell(0.1, f"learning {lesson.kind} from {len(lesson.inputs)} rows")
    tried: list[_Student] = []
    for number, hidden in enumerate(sizes, start=1):
        tried.append(_train(lesson, hidden, parameters))
        tell(0.1 + 0.9 * number / len(sizes), tried[-1].words(len(lesson.held_back)))
        if tried[-1].likeness.agreement >= parameters.agreement_min:
            break
    enough = tried[-1].likeness.agreement >= parameters.agreement_min
    chosen = tried[-1] if enough else max(tried, key=lambda s: (s.likeness.agreement, -s.likeness.relative_error))
    facts = {
        **lesson.facts(parameters.temperature),
        "tried": [student.facts() for student in tried],
        "hidden": list(chosen.hidden),
        "reached": enough,
        "layers": _layer_facts(chosen.layers),
    }
    return Applied(chosen.model, facts)


def _sizes(lesson: Lesson, parameters: Distil) -> list[tuple[int, ...]]:
    """Return the sizes to try, the fewest parameters first, without those of more than `bytes_max`."""
    wanted = {tuple(hidden) for hidden in (parameters.hidden, *parameters.search)}
    empty = {hidden: _empty(lesson, hidden) for hidden in wanted}
    ordered = sorted(wanted, key=lambda hidden: (sum(layer.parameters for layer in empty[hidden]), hidden))
    if parameters.bytes_max is None:
        return ordered
    # A graph's size does not depend on the values of its weights.
    weighed = {hidden: _graph(lesson, empty[hidden]).ByteSize() for hidden in ordered}
    fitting = [hidden for hidden in ordered if weighed[hidden] <= parameters.bytes_max]
    if not fitting:
        smallest = ordered[0]
        raise inapplicable(
            f"bytes_max is {parameters.bytes_max}, and the smallest student, hidden {list(smallest)}, has "
            f"{weighed[smallest]} bytes; allow more, or name a smaller size"
        )
    return fitting


def _empty(lesson: Lesson, hidden: Sequence[int]) -> list[Dense]:
    widths = [lesson.inputs[0].size, *hidden, lesson.answers.shape[1]]
    return [
        Dense(np.zeros((before, after), np.float32), np.zeros(after, np.float32)) for before, after in pairwise(widths)
    ]


def _graph(lesson: Lesson, layers: Sequence[Dense]) -> onnx.ModelProto:
    return dense_student(lesson.signature, layers, ending=ENDINGS.get(lesson.kind))


def _train(lesson: Lesson, hidden: tuple[int, ...], parameters: Distil) -> _Student:
    # scikit-learn takes a second to import and tens of megabytes: processes that only read recipes do without.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    inputs = lesson.inputs.reshape(len(lesson.inputs), -1)
    targets = lesson.targets(parameters.temperature)
    # Pixels that hardly ever vary are not blown up: an image has one scale for each of its channels.
    inputs_at, inputs_spread = _standard(inputs, lesson.image[0] if lesson.image else inputs.shape[1])
    targets_at, targets_spread = _standard(targets, targets.shape[1])
    standard = ((targets - targets_at) / targets_spread).astype(np.float32)
    regressor = MLPRegressor(
        hidden_layer_sizes=hidden,
        activation="relu",
        solver="adam",
        learning_rate_init=LEARNING_RATE,
        batch_size=min(ROWS_A_BATCH_MAX, max(ROWS_A_BATCH_MIN, len(inputs) // BATCHES_AN_EPOCH)),
        max_iter=parameters.epochs,
        early_stopping=False,
        random_state=parameters.seed,
    )
    with warnings.catch_warnings():
        # The epochs are the recipe's choice, and what they led to is in the facts.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regressor.fit(
            ((inputs - inputs_at) / inputs_spread).astype(np.float32),
            standard[:, 0] if standard.shape[1] == 1 else standard,
        )
    layers = _folded(regressor.coefs_, regressor.intercepts_, inputs_at, inputs_spread, targets_at, targets_spread)
    model = _graph(lesson, layers)
    return _Student(hidden, layers, model, lesson.likeness(model), float(regressor.loss_), int(regressor.n_iter_))


def _standard(rows: Array, groups: int) -> tuple[Array, Array]:
    """Return each column's mean and spread, float64 [columns], taken by groups of columns; 1 for no spread."""
    grouped = rows.reshape(len(rows), groups, -1)
    at = grouped.mean(axis=(0, 2), dtype=np.float64)
    spread = grouped.std(axis=(0, 2), dtype=np.float64)
    spread = np.where(spread > CONSTANT * np.abs(grouped).max(axis=(0, 2)), spread, 1.0)
    return at.repeat(grouped.shape[2]), spread.repeat(grouped.shape[2])


def _folded(
    weights: Sequence[Array],
    biases: Sequence[Array],
    inputs_at: Array,
    inputs_spread: Array,
    targets_at: Array,
    targets_spread: Array,
) -> list[Dense]:
    """Return layers for inputs and outputs as they are, from those for (x - at) / spread on both sides."""
    weights = [np.asarray(layer, np.float64) for layer in weights]
    biases = [np.asarray(layer, np.float64) for layer in biases]
    weights[0] = weights[0] / inputs_spread[:, None]
    biases[0] = biases[0] - inputs_at @ weights[0]
    weights[-1] = weights[-1] * targets_spread
    biases[-1] = biases[-1] * targets_spread + targets_at
    return [
        Dense(layer.astype(np.float32), bias.astype(np.float32)) for layer, bias in zip(weights, biases, strict=True)
    ]


def _layer_facts(layers: Sequence[Dense]) -> list[dict[str, Any]]:
    return [
        {
            "name": f"dense{number}",
            "inputs": layer.weights.shape[0],
            "outputs": layer.weights.shape[1],
            "parameters": layer.parameters,
        }
        for number, layer in enumerate(layers, start=1)
    ]
