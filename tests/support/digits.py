"""Handwritten digits and a classifier for them that needs no training, as ONNX file and evaluation data."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from tests.support.onnx_models import write_model

INPUT = "image"
OUTPUT = "scores"
HELD_OUT = 400
"""Images of the evaluation data, which the classifier has not seen."""

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@cache
def digits() -> tuple[Floats, Labels]:
    """Return 1797 images as rows of 64 numbers from 0 to 1, and the digit that each shows."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels.astype(np.int64)


def digits_model(path: Path) -> None:
    """Write a classifier by the nearest class mean, about 0.87 accurate: scores FP32 [-1, 10]."""
    images, labels = digits()
    seen, named = images[:-HELD_OUT], labels[:-HELD_OUT]
    means = np.stack([seen[named == digit].mean(axis=0) for digit in range(10)])
    # |x - mean|^2 is smallest where 2 * x @ mean - |mean|^2 is largest.
    linear_classifier(path, 2 * means.T, -(means**2).sum(axis=1))


def linear_classifier(path: Path, weights: Floats, biases: Floats) -> None:
    """Write `scores = image @ weights + biases` as one Gemm."""
    features, classes = weights.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", [INPUT, "weights", "biases"], [OUTPUT])],
        "classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", classes])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(biases.astype(np.float32), "biases"),
        ],
    )
    write_model(path, graph)


def digits_evaluation(path: Path) -> None:
    """Write the images that the classifier has not seen, with their labels."""
    images, labels = digits()
    np.savez(path, inputs=images[-HELD_OUT:], labels=labels[-HELD_OUT:])


def fragile_classifier(model: Path, evaluation: Path) -> None:
    """Write a classifier that is always right until its weights are rounded to 8 bits, then no better than a guess.

    What tells its classes apart is a thousandth of a weight that all classes share.
    """
    rows = np.random.default_rng(3).normal(size=(200, 5)).astype(np.float32)
    weights = np.zeros((5, 4), np.float32)
    weights[0] = 1000.0
    weights[1:] = np.eye(4)
    rows[:, 0] = 0.5
    np.savez(evaluation, inputs=rows, labels=(rows @ weights).argmax(axis=1))
    linear_classifier(model, weights, np.zeros(4, np.float32))
