"""What a student can learn from a graph: one output with a vector of numbers a row, on rows that nobody labelled.

A fifth of the calibration rows is held back: no student trains on it, and on it each is compared with its teacher. It
is the same fifth whatever the seed. This is also what makes a good student where labels are few: the teacher saw them,
and answers as many unlabelled rows as there are.

What the output is shows in its numbers:

    probabilities   two or more a row, from 0 to 1, adding up to 1
    probability     one a row, from 0 to 1: that of the second of two classes (as `decisions.py` reads it)
    scores          two or more a row otherwise
    numbers         one a row otherwise

Probabilities are learnt as their logarithms, a single one as its logit. Those of classes that are out of the question
are noise: logarithms of probabilities softened by the temperature, p ** (1 / T), are followed down to FAINT and no
further, which is FAINT ** T before softening (Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
2015, section 2.1: the lower the temperature, the less attention goes to what is far below the rest). Trees answer
exactly 0 for what they never saw; that counts as the smallest probability above 0 that they gave.

Scores and numbers are learnt as they are. Matching logits by squared error is distillation at the limit of high
temperatures (same section), so dividing by one, and multiplying again to keep the scale, would change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto

from controller.artifacts.behaviour.augmentation import Image, augmented, image_of
from controller.artifacts.graph.running import damage, run_model
from controller.artifacts.graph.sessions import Array, Tensors
from controller.artifacts.graph.students import IR_VERSION_MIN, OPSET_MIN, Ending, Signature
from controller.artifacts.graph.weights import Floats
from controller.artifacts.steps.interface import Calibration, inapplicable

Kind = Literal["probabilities", "probability", "scores", "numbers"]
ENDINGS: dict[Kind, Ending] = {"probabilities": "Softmax", "probability": "Sigmoid"}
"""What a student ends with, where it does not end with the scores themselves."""

FAINT = 0.01
ROWS_MIN = 20
HELD_BACK = 0.2
ELEMENTS_MAX = 64_000_000
"""Numbers that all rows to train on may hold together, a quarter of a gigabyte; beyond it, rows are left out."""
_SUM_TOLERANCE = 1e-3
_SEED = 20_240_229


@dataclass(frozen=True)
class Lesson:
    """A teacher's answers to learn from, and others to be judged by."""

    signature: Signature
    kind: Kind
    inputs: Floats
    """[rows, ...] as the model takes them: calibration rows first, then their changed copies."""
    answers: Floats
    """[rows, width]: the scores for them."""
    held_back: Calibration
    held_back_answers: Tensors
    image: Image | None
    """What rows show, where they are images."""
    calibration_rows: int
    """How many rows there were, held back and trained on."""

    def targets(self, temperature: float) -> Array:
        """Return what to regress on, float64 [rows, width]; logits where answers are probabilities."""
        answers = self.answers.astype(np.float64)
        if self.kind == "probability":
            faint = FAINT**temperature
            return np.asarray(np.log(np.clip(answers, faint, 1 - faint) / np.clip(1 - answers, faint, 1 - faint)))
        if self.kind != "probabilities":
            return answers
        smallest = float(answers.min(where=answers > 0, initial=1.0)) if (answers == 0).any() else 0.0
        logits: Array = np.log(np.maximum(answers, max(FAINT**temperature, smallest)))
        logits -= logits.mean(axis=1, keepdims=True)
        return logits

    def facts(self, temperature: float) -> dict[str, Any]:
        """Return what was learnt from, as JSON; `temperature` is None where it changes nothing."""
        return {
            "learnt": self.kind,
            "temperature": temperature if self.kind in ENDINGS else None,
            "calibration_rows": self.calibration_rows,
            "held_back_rows": len(self.held_back),
            "trained_rows": len(self.inputs),
            "image": list(self.image) if self.image else None,
        }

    def likeness(self, student: onnx.ModelProto) -> "Likeness":
        """Compare a student with the teacher on the rows that were held back."""
        strayed = damage(self.held_back_answers, run_model(student, self.held_back))
        alike = 1 - strayed.relative_error**2 if self.kind == "numbers" else 1 - strayed.disagreement
        return Likeness(max(0.0, alike), strayed.relative_error)


@dataclass(frozen=True, order=True)
class Likeness:
    """How much a student is like its teacher on rows that it has not seen."""

    agreement: float
    """Share of the rows decided alike; for numbers the share of their variance that the student tells."""
    relative_error: float
    """Root of the mean squared difference of the scores, over their standard deviation."""


def prepare(model: onnx.ModelProto, calibration: Calibration, *, step: str, copies: int, seed: int) -> Lesson:
    """Ask the teacher about every row and its changed copies; `recipe_inapplicable` where there is nothing to learn."""
    scores, labels = _named_outputs(model, step)
    name, held_back, trained_on = _halves(model, calibration, step, copies)
    held_back_answers = run_model(model, held_back)
    width = _width(held_back_answers, scores, len(held_back), step)
    inputs = augmented(trained_on.inputs[name], copies, seed=seed)
    told = run_model(model, Calibration({name: inputs}, calibration.rows_a_run))
    answers = np.concatenate([held_back_answers[scores].reshape(-1, width), told[scores].reshape(-1, width)])
    if not np.isfinite(answers).all():
        raise inapplicable(
            f"{step} learns the output {scores!r}, and for rows like the calibration's it holds values that are not "
            "finite numbers; look for rows far from those that the model was made for"
        )
    for label in labels:
        _refuse_other_labels(held_back_answers[label], held_back_answers[scores], label, step)
        originals = slice(0, len(trained_on))
        _refuse_other_labels(told[label][originals], told[scores][originals], label, step)
    return Lesson(
        _signature(model, name, scores, labels, column=held_back_answers[scores].ndim == 1),
        _kind(answers),
        inputs,
        answers[len(held_back) :].astype(np.float32),
        held_back,
        held_back_answers,
        image_of(trained_on.inputs[name]),
        len(held_back) + len(trained_on),
    )


def _named_outputs(model: onnx.ModelProto, step: str) -> tuple[str, list[str]]:
    """Return the name of the one output of floats, and of the label where there is one."""
    types = {output.name: output.type.tensor_type.elem_type for output in model.graph.output}
    floats = [name for name, kind in types.items() if kind == TensorProto.FLOAT]
    others = [name for name in types if name not in floats]
    if len(floats) != 1:
        told = ", ".join(f"{name!r} {TensorProto.DataType.Name(kind)}" for name, kind in types.items())
        raise inapplicable(
            f"{step} trains a student on one output of FP32 scores, and this model has {len(floats)} of those "
            f"({told}); export it with that output alone, or leave the step out"
        )
    if len(others) > 1 or any(types[name] != TensorProto.INT64 for name in others):
        raise inapplicable(
            f"a student of {step} answers scores, and one INT64 label if the model has it; this model also has "
            f"{', '.join(map(repr, others))}; export it without, or leave the step out"
        )
    return floats[0], others


def _halves(
    model: onnx.ModelProto, calibration: Calibration, step: str, copies: int
) -> tuple[str, Calibration, Calibration]:
    """Return the input's name, the rows held back and those to train on, both in whole runs."""
    name = _input(model, calibration, step)
    rows = calibration.inputs[name]
    run, runs = calibration.rows_a_run, len(rows) // calibration.rows_a_run
    fitting = ELEMENTS_MAX // (max(1, rows[0].size) * (copies + 1))
    runs = min(runs, fitting // run)
    if runs < 2 or runs * run < ROWS_MIN:
        raise inapplicable(
            f"{step} needs {ROWS_MIN} calibration rows or more, and two runs, and can use {runs * run} of {len(rows)} "
            f"rows with {rows[0].size} numbers each; give more rows, or a lower `augment` where rows are large"
        )
    order = np.random.default_rng(_SEED).permutation(len(rows) // run * run)[: runs * run]
    held = max(1, round(HELD_BACK * runs)) * run
    return name, Calibration({name: rows[order[:held]]}, run), Calibration({name: rows[order[held:]]}, run)


def _input(model: onnx.ModelProto, calibration: Calibration, step: str) -> str:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise inapplicable(
            f"a student of {step} takes one input, and this model has {len(inputs)} "
            f"({', '.join(repr(value.name) for value in inputs)}); leave the step out, or quantize instead"
        )
    tensor = inputs[0].type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        raise inapplicable(
            f"a student of {step} takes FP32 numbers, and the input {inputs[0].name!r} is "
            f"{TensorProto.DataType.Name(tensor.elem_type)}; noise and mixes mean nothing for whole numbers such as "
            "token ids, and other floats come after: put float16 behind this step, or leave the step out"
        )
    if any(dimension.dim_value <= 0 for dimension in tensor.shape.dim[1:]):
        shape = [dimension.dim_value or dimension.dim_param or "?" for dimension in tensor.shape.dim]
        raise inapplicable(
            f"a student of {step} has layers of fixed size, and the input {inputs[0].name!r} has the shape {shape}; "
            "export the model with fixed sizes for all but the rows, or leave the step out"
        )
    assert set(calibration.inputs) == {inputs[0].name}
    return str(inputs[0].name)


def _width(answers: Tensors, scores: str, rows: int, step: str) -> int:
    shape = answers[scores].shape
    if len(shape) not in (1, 2) or shape[0] != rows:
        raise inapplicable(
            f"a student of {step} answers one vector a row, and for {rows} rows the output {scores!r} has the shape "
            f"{list(shape)}; sequences and maps cannot be learnt this way: leave the step out, or quantize instead"
        )
    return shape[1] if len(shape) == 2 else 1


def _refuse_other_labels(label: Array, scores: Array, name: str, step: str) -> None:
    if label.ndim == 1 and scores.ndim == 2 and scores.shape[1] > 1:
        others = np.flatnonzero(label != scores.argmax(axis=1))
        if not len(others):
            return
        told = f"for one row it is {int(label[others[0]])} and the largest score is number {scores[others[0]].argmax()}"
    else:
        told = f"it has the shape {list(label.shape)} and the scores have {list(scores.shape)}"
    raise inapplicable(
        f"a student of {step} names a class by its largest score, and the output {name!r} does not: {told}; export "
        "the model with classes counted from 0, or without this output"
    )


def _kind(answers: Array) -> Kind:
    in_range = bool(((answers >= 0) & (answers <= 1 + _SUM_TOLERANCE)).all())
    if answers.shape[1] == 1:
        return "probability" if in_range else "numbers"
    adds_up = bool((np.abs(answers.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())
    return "probabilities" if in_range and adds_up else "scores"


def _signature(model: onnx.ModelProto, name: str, scores: str, labels: Sequence[str], *, column: bool) -> Signature:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    return Signature(
        input=next(value for value in model.graph.input if value.name == name),
        outputs=tuple(model.graph.output),
        scores=scores,
        column=column,
        label=labels[0] if labels else None,
        opset=max(OPSET_MIN, opset),
        ir_version=max(IR_VERSION_MIN, model.ir_version),
    )
