"""Refitting a layer whose inputs were partly removed, so that it gives again what it gave before.

Rows of what flowed into the layer tell how. With W [K, M] the layer's matrix, A [n, K] its inputs in the graph given
and B [n, k] the inputs that are left, means taken off, S the rows of W that stay:

    none            W' = S
    bias            W' = S                                  offset = mean(A) W - mean(B) W'
    least_squares   W' = S + (B'B + l I)^-1 B'(A W - B S)   offset as above,  l = ridge * mean of the diagonal of B'B

The right answers come from the graph given and the inputs from the graph as far as it has been cut, so that a
layer also makes up for losses before it (He, Zhang, Sun: Channel Pruning for Accelerating Very Deep Neural
Networks, 2017, section 3.2). No labels are needed and nothing is trained.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Kind = Literal["none", "bias", "least_squares"]
_TINY = 1e-12


@dataclass(frozen=True)
class Refitted:
    """A layer after its inputs were cut."""

    matrix: Doubles
    """[inputs that stay, M]"""
    offset: Doubles
    """[M], to be added to the layer's bias."""


def kept_alone(matrix: npt.NDArray[Any], kept: Places) -> Refitted:
    """Return a layer [K, M] without the inputs that are gone, not refitted."""
    return Refitted(matrix[kept].astype(np.float64), np.zeros(matrix.shape[1]))


def refit(
    matrix: npt.NDArray[Any], kept: Places, wanted: npt.NDArray[Any], given: npt.NDArray[Any], kind: Kind, ridge: float
) -> Refitted:
    """Refit a layer [K, M] whose inputs `kept` [k] stay.

    `wanted` [n, K] are its inputs in the graph given, `given` [n, k] those that it has now, on the same n rows.
    """
    start = kept_alone(matrix, kept)
    if kind == "none":
        return start
    full = matrix.astype(np.float64)
    wanted_mean, given_mean = wanted.mean(axis=0, dtype=np.float64), given.mean(axis=0, dtype=np.float64)
    fitted = start.matrix
    if kind == "least_squares":
        inputs = given - given_mean
        missing = (wanted - wanted_mean) @ full - inputs @ fitted
        fitted = fitted + ridge_solution(inputs, missing, ridge)
    return Refitted(fitted, wanted_mean @ full - given_mean @ fitted)


def ridge_solution(inputs: Doubles, answers: Doubles, ridge: float) -> Doubles:
    """Return X [k, M] that makes inputs [n, k] @ X close to answers [n, M] and is itself small.

    The penalty is `ridge` times the mean of the inputs' squared lengths by column. The smaller of the two equal
    forms is solved, (B'B + l I)^-1 B' or B'(BB' + l I)^-1.
    """
    rows, columns = inputs.shape
    penalty = ridge * float((inputs**2).sum()) / max(columns, 1) + _TINY
    if columns <= rows:
        gram = inputs.T @ inputs
        gram[np.diag_indices(columns)] += penalty
        return np.asarray(np.linalg.solve(gram, inputs.T @ answers))
    gram = inputs @ inputs.T
    gram[np.diag_indices(rows)] += penalty
    return np.asarray(inputs.T @ np.linalg.solve(gram, answers))
