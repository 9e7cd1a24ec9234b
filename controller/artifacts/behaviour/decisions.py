"""What a classifier decides: reading a class for each row out of a model's outputs.

The first rule that some output fits applies:

 1. numbers with fractions, [rows, classes], two classes or more: the largest score
 2. numbers with fractions, [rows] or [rows, 1]: above 0.5 is class 1
 3. whole numbers, [rows] or [rows, 1]: the class itself
"""

from dataclasses import dataclass

import numpy as np

from controller.artifacts.graph.sessions import Array, Tensors

BINARY_THRESHOLD = 0.5


@dataclass(frozen=True)
class Decisions:
    """The class of each row, and how clear it was."""

    labels: Array
    margins: Array
    """By how much the decision was taken; 0 is a draw. All equal where the output does not tell."""
    classes: int | None
    """How many classes can be answered; None where the output does not tell."""


def decide(outputs: Tensors) -> Decisions | None:
    """Return the decisions, or None for outputs that name no class."""
    scores = class_scores(outputs)
    if scores is not None:
        return _by_scores(scores) if scores.shape[1] > 1 else _by_threshold(scores.reshape(-1))
    for named in outputs.values():
        if named.dtype.kind in "iu" and _is_column(named):
            return Decisions(named.reshape(-1), np.ones(len(named)), None)
    return None


def class_scores(outputs: Tensors) -> Array | None:
    """Return the scores by which the first two rules decide, float64 [rows, classes] or [rows, 1]; None without."""
    fractions = [array for array in outputs.values() if array.dtype.kind == "f"]
    for scores in fractions:
        if scores.ndim == 2 and scores.shape[1] > 1:
            return scores.astype(np.float64)
    for scores in fractions:
        if _is_column(scores):
            return scores.reshape(-1, 1).astype(np.float64)
    return None


def _is_column(array: Array) -> bool:
    return array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)


def _by_scores(scores: Array) -> Decisions:
    best = np.sort(scores, axis=1)[:, -2:]
    # Two scores that are both infinite are a draw.
    margins = np.zeros(len(best))
    np.subtract(best[:, 1], best[:, 0], where=best[:, 1] != best[:, 0], out=margins)
    return Decisions(scores.argmax(axis=1), margins, scores.shape[1])


def _by_threshold(scores: Array) -> Decisions:
    return Decisions((scores > BINARY_THRESHOLD).astype(np.int64), np.abs(scores - BINARY_THRESHOLD), 2)
