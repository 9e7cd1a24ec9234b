"""Small trained-looking networks for compression: dense, convolutional, residual; seeded, as graphs in memory."""

import warnings
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from controller.artifacts.graph.sessions import Session
from controller.artifacts.steps.interface import Calibration
from tests.support.digits import HELD_OUT, digits

OPSET = 17
IR_VERSION = 8


def as_model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    inputs: dict[str, list[int | str]],
    outputs: dict[str, list[int | str]],
) -> onnx.ModelProto:
    """Return a checked FP32 model of the nodes; `weights` are its initializers."""
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


@cache
def _trained() -> MLPClassifier:
    images, labels = digits()
    network = MLPClassifier((64, 32), random_state=0, max_iter=40, early_stopping=False, tol=0.0, n_iter_no_change=50)
    with warnings.catch_warnings():
        # Forty rounds are enough for tests, and too few to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(images[:-HELD_OUT], labels[:-HELD_OUT])


def digits_network() -> onnx.ModelProto:
    """Return a trained 64-64-32-10 classifier of digits: image FP32 [-1, 64] to scores FP32 [-1, 10], 0.9 right."""
    trained = _trained()
    nodes, weights, flowing = [], {}, "image"
    layers = list(zip(trained.coefs_, trained.intercepts_, strict=True))
    for number, (matrix, bias) in enumerate(layers, start=1):
        weights |= {f"w{number}": matrix.astype(np.float32), f"b{number}": bias.astype(np.float32)}
        last = number == len(layers)
        result = "scores" if last else f"h{number}"
        nodes.append(helper.make_node("Gemm", [flowing, f"w{number}", f"b{number}"], [result], name=f"dense{number}"))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"a{number}"]))
            flowing = f"a{number}"
    return as_model(nodes, weights, inputs={"image": ["rows", 64]}, outputs={"scores": ["rows", 10]})


def digits_calibration(rows: int = 600) -> Calibration:
    """Return unlabelled images for `digits_network`."""
    return Calibration({"image": digits()[0][:rows]}, 1)


CONV_CHANNELS = (8, 16)
_RIDGE = 10.0


def _conv_body() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Return seeded convolutions, the first with batch normalisation: image [rows, 1, 8, 8] to flat [rows, 1024]."""
    generator = np.random.default_rng(11)
    first, second = CONV_CHANNELS
    weights = {
        "k1": generator.normal(size=(first, 1, 3, 3)) * np.sqrt(2 / 9),
        "scale": generator.uniform(0.5, 1.5, first),
        "shift": generator.normal(size=first) * 0.1,
        "mean": generator.normal(size=first) * 0.1,
        "variance": generator.uniform(0.5, 1.5, first),
        "k2": generator.normal(size=(second, first, 3, 3)) * np.sqrt(2 / (9 * first)),
        "kb2": generator.normal(size=second) * 0.1,
    }
    nodes = [
        helper.make_node("Conv", ["image", "k1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], name="norm1"),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "k2", "kb2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("Flatten", ["r2"], ["flat"], name="flatten", axis=1),
    ]
    return nodes, {name: array.astype(np.float32) for name, array in weights.items()}


@cache
def _conv_head() -> tuple[np.ndarray, np.ndarray]:
    """Return the head [1024, 10] with its bias: ridge regression of one-hot digits on what the body gives."""
    nodes, weights = _conv_body()
    body = as_model(nodes, weights, inputs={"image": ["rows", 1, 8, 8]}, outputs={"flat": ["rows", 1024]})
    images, labels = digits()
    seen = Session(body.SerializeToString()).run({"image": images[:-HELD_OUT].reshape(-1, 1, 8, 8)})["flat"]
    centre = seen.mean(axis=0, dtype=np.float64)
    wanted = np.eye(10)[labels[:-HELD_OUT]]
    features = seen - centre
    gram = features.T @ features + _RIDGE * np.eye(features.shape[1])
    head = np.linalg.solve(gram, features.T @ (wanted - wanted.mean(axis=0)))
    return head, wanted.mean(axis=0) - centre @ head


def conv_network() -> onnx.ModelProto:
    """Return a classifier of digits: image FP32 [-1, 1, 8, 8] to scores FP32 [-1, 10], about 0.95 right.

    conv1 (8) - norm1 - relu1 - conv2 (16) - relu2 - flatten - head; random convolutions and a fitted head.
    """
    nodes, weights = _conv_body()
    head, bias = _conv_head()
    weights |= {"w3": head.astype(np.float32), "b3": bias.astype(np.float32)}
    nodes.append(helper.make_node("Gemm", ["flat", "w3", "b3"], ["scores"], name="head"))
    return as_model(nodes, weights, inputs={"image": ["rows", 1, 8, 8]}, outputs={"scores": ["rows", 10]})


def conv_calibration(rows: int = 600) -> Calibration:
    """Return unlabelled images for `conv_network`."""
    return Calibration({"image": digits()[0][:rows].reshape(-1, 1, 8, 8)}, 1)


def fragile_network() -> onnx.ModelProto:
    """Return a network whose second layer, `fragile`, answers nothing useful once its weights are rounded to 8 bits.

    x FP32 [-1, 5] to scores FP32 [-1, 4]. What tells classes apart in `fragile` is a thousandth of a weight that all
    classes share; `sturdy` before it is the identity.
    """
    weights = {"w1": np.eye(5, dtype=np.float32), "w2": np.zeros((5, 4), np.float32)}
    weights["w2"][0] = 1000.0
    weights["w2"][1:] = np.eye(4)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="sturdy"),
        helper.make_node("MatMul", ["h", "w2"], ["scores"], name="fragile"),
    ]
    return as_model(nodes, weights, inputs={"x": ["rows", 5]}, outputs={"scores": ["rows", 4]})


def fragile_calibration(rows: int = 128) -> Calibration:
    """Return rows that `fragile_network` decides clearly."""
    drawn = np.random.default_rng(3).integers(1, 5, rows)
    inputs = np.concatenate([np.full((rows, 1), 0.5), np.eye(4)[drawn - 1]], axis=1)
    return Calibration({"x": inputs.astype(np.float32)}, 1)
