"""Dense networks: trained by scikit-learn, written as Gemm and Relu."""

import warnings
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from controller.artifacts.graph.sessions import Array, Tensors
from ops.benchmarks.reference_models.reference import Floats, Labels, network


def train_dense(rows: Floats, labels: Labels, hidden: tuple[int, ...], epochs: int, seed: int) -> Tensors:
    """Return the matrices w1, w2, ... [in, out] and the biases b1, b2, ... of a network with one logit a class."""
    fitted = MLPClassifier(hidden, max_iter=epochs, random_state=seed, tol=0.0, n_iter_no_change=epochs)
    with warnings.catch_warnings():
        # The number of passes is chosen, not waited for.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted.fit(rows, labels)
    layers = list(enumerate(zip(fitted.coefs_, fitted.intercepts_, strict=True), start=1))
    found = {name: array for n, (matrix, bias) in layers for name, array in ((f"w{n}", matrix), (f"b{n}", bias))}
    last = len(layers)
    if found[f"b{last}"].size == 1:
        # Of two classes scikit-learn has one output z. The logits 0 and z give the same probabilities.
        for name in (f"w{last}", f"b{last}"):
            found[name] = np.concatenate([np.zeros_like(found[name]), found[name]], axis=-1)
    return found


def dense_model(name: str, weights: Tensors, entry: str) -> onnx.ModelProto:
    """Return the network of `train_dense` as a graph: `entry` FP32 [-1, columns] to scores FP32 [-1, classes]."""
    layers = range(1, len(weights) // 2 + 1)
    matrices, biases = [weights[f"w{n}"] for n in layers], [weights[f"b{n}"] for n in layers]
    nodes, tensors = dense_layers(matrices, biases, entry, "scores")
    return network(
        name,
        nodes,
        tensors,
        inputs=[helper.make_tensor_value_info(entry, TensorProto.FLOAT, ["rows", len(matrices[0])])],
        outputs=[helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", biases[-1].size])],
    )


def dense_layers(
    matrices: Sequence[Array], biases: Sequence[Array], entry: str, exit_name: str
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Return Gemm and Relu in turn, without a Relu at the end: matrices [in, out], biases [out]."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, Array] = {}
    flowing = entry
    for number, (matrix, bias) in enumerate(zip(matrices, biases, strict=True), start=1):
        last = number == len(matrices)
        result = exit_name if last else f"dense{number}_sum"
        weights |= {f"dense{number}_w": matrix.astype(np.float32), f"dense{number}_b": bias.astype(np.float32)}
        operands = [flowing, f"dense{number}_w", f"dense{number}_b"]
        nodes.append(helper.make_node("Gemm", operands, [result], name=f"dense{number}"))
        if not last:
            flowing = f"dense{number}_out"
            nodes.append(helper.make_node("Relu", [result], [flowing], name=f"dense{number}_relu"))
    return nodes, weights
