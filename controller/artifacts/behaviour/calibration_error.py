"""How far a classifier's confidence is from being right: the expected calibration error.

ECE = sum over bins of (rows in bin / rows) * |share right in bin - mean confidence in bin|, with 15 bins of equal
width over (0, 1] (Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, equation 3).
"""

import numpy as np

from controller.artifacts.behaviour.decisions import class_scores
from controller.artifacts.graph.sessions import Array, Tensors

BINS = 15
SUM_TOLERANCE = 1e-3


def expected_calibration_error(confidence: Array, right: Array) -> float:
    """Return the error, 0 to 1, from each row's confidence in its decision, float [rows] 0 to 1, and bool [rows]."""
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right.astype(np.float64) - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_of(source: Tensors, variant: Tensors, labels: Array) -> dict[str, float] | None:
    """Return both models' errors as `value` and `source_value`; None for outputs that tell no probabilities.

    The source's outputs decide whether scores are probabilities: quantization moves the sum of a variant's away
    from one, and they must not be read as logarithms for that. `labels` is int64 [rows].
    """
    scores, of_variant = class_scores(source), class_scores(variant)
    if scores is None or of_variant is None:
        return None
    if scores.shape[1] == 1:
        if not _within_unit(scores):
            return None
        scores, of_variant = _both_classes(scores), _both_classes(of_variant)
    read = _normalised if _are_probabilities(scores) else _softmax
    return {"value": _error(read(of_variant), labels), "source_value": _error(read(scores), labels)}


def _error(probabilities: Array, labels: Array) -> float:
    return expected_calibration_error(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def _within_unit(scores: Array) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def _both_classes(scores: Array) -> Array:
    # A probability of class 1; class 1 is named above one half, not at it.
    probability = np.clip(scores, 0.0, 1.0)
    return np.concatenate([1 - probability, probability], axis=1)


def _are_probabilities(scores: Array) -> bool:
    return _within_unit(scores) and bool(np.allclose(scores.sum(axis=1), 1.0, rtol=0, atol=SUM_TOLERANCE))


def _normalised(scores: Array) -> Array:
    positive = np.clip(scores, 0.0, None)
    total = positive.sum(axis=1, keepdims=True)
    return np.where(total > 0, positive / np.where(total > 0, total, 1.0), 1.0 / scores.shape[1])


def _softmax(scores: Array) -> Array:
    # Minus infinity is the logarithm of 0 and may be there; the largest score of a row is finite or the row is even.
    largest = scores.max(axis=1, keepdims=True)
    shifted = np.where(np.isfinite(largest), scores - np.where(np.isfinite(largest), largest, 0.0), 0.0)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
