"""Small untrained networks, each with one way in which channels reach the next layer; seeded."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support.networks import as_model

CHANNELS = 16
"""Hidden channels of every network here."""
ROWS = 8
Weights = dict[str, np.ndarray]
node = helper.make_node


def _normal(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 0.5).astype(np.float32)


def _whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _dense(between: list[onnx.NodeProto], weights: Weights, last: str) -> onnx.ModelProto:
    """Return x [rows, 6] -> Gemm `first` -> h -> `between` -> Gemm `second` -> y [rows, 3]."""
    layers = {"w1": _normal(1, 6, CHANNELS), "b1": _normal(2, CHANNELS), "w2": _normal(3, CHANNELS, 3)}
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        *between,
        node("Gemm", [last, "w2"], ["y"], name="second"),
    ]
    return as_model(nodes, {**layers, **weights}, inputs={"x": ["rows", 6]}, outputs={"y": ["rows", 3]})


def _maps(
    between: list[onnx.NodeProto], weights: Weights, last: str, entries: int, *, rows: int | str = "rows"
) -> onnx.ModelProto:
    """Return x [rows, 2, 6, 6] -> Conv `first` -> h [rows, 16, 6, 6] -> `between` -> Gemm `second` -> y [rows, 3]."""
    layers = {"w1": _normal(1, CHANNELS, 2, 3, 3), "b1": _normal(2, CHANNELS), "w2": _normal(3, 3, entries)}
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["h"], name="first", pads=[1, 1, 1, 1]),
        *between,
        node("Gemm", [last, "w2", "b2"], ["y"], name="second", transB=1, alpha=0.5, beta=2.0),
    ]
    held = {**layers, "b2": _normal(4, 3), **weights}
    return as_model(nodes, held, inputs={"x": [rows, 2, 6, 6]}, outputs={"y": [rows, 3]})


def dense_relu() -> onnx.ModelProto:
    """Gemm, Relu, Gemm without a bias."""
    return _dense([node("Relu", ["h"], ["a"])], {}, "a")


def dense_normalised() -> onnx.ModelProto:
    """Gemm, batch normalisation with vectors that are stored once though they mean different things, Gemm."""
    figures = {"ones": np.ones(CHANNELS, np.float32), "zeros": np.zeros(CHANNELS, np.float32)}
    norm = node("BatchNormalization", ["h", "ones", "zeros", "zeros", "ones"], ["n"], name="norm")
    return _dense([norm, node("PRelu", ["n", "slope"], ["a"])], {**figures, "slope": _normal(5, CHANNELS)}, "a")


def dense_with_constant_nodes() -> onnx.ModelProto:
    """Gemm, arithmetic with vectors and scalars that Constant nodes hold, Gemm."""
    vector = numpy_helper.from_array(_normal(5, 1, CHANNELS))
    scalar = numpy_helper.from_array(np.array(2.0, np.float32))
    between = [
        node("Constant", [], ["vector"], value=vector),
        node("Constant", [], ["scalar"], value=scalar),
        node("Mul", ["vector", "h"], ["m"]),
        node("Sub", ["scalar", "m"], ["s"]),
        node("Clip", ["s", "", "scalar"], ["a"]),
    ]
    return _dense(between, {}, "a")


def sequence_gelu() -> onnx.ModelProto:
    """MatMul and Add on [rows, 5, 6], a GELU written out, MatMul and Add: as transformers are exported."""
    nodes = [
        node("MatMul", ["x", "w1"], ["p"], name="first"),
        node("Add", ["b1", "p"], ["h"]),
        node("Div", ["h", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["h", "f"], ["g"]),
        node("Mul", ["g", "half"], ["a"]),
        node("MatMul", ["a", "w2"], ["q"], name="second"),
        node("Add", ["q", "b2"], ["z"]),
        node("Add", ["z", "x"], ["y"], name="around"),
    ]
    weights = {
        "w1": _normal(1, 6, CHANNELS),
        "b1": _normal(2, CHANNELS),
        "w2": _normal(3, CHANNELS, 6),
        "b2": _normal(4, 6),
        "root": np.array(2**0.5, np.float32),
        "one": np.array([1.0], np.float32),
        "half": np.array(0.5, np.float32),
    }
    return as_model(nodes, weights, inputs={"x": ["rows", 5, 6]}, outputs={"y": ["rows", 5, 6]})


def sequence_mean() -> onnx.ModelProto:
    """MatMul on [rows, 5, 6], the mean over the five steps, MatMul without any bias."""
    nodes = [
        node("MatMul", ["x", "w1"], ["h"], name="first"),
        node("Tanh", ["h"], ["t"]),
        node("ReduceMean", ["t"], ["a"], axes=[1], keepdims=0),
        node("MatMul", ["a", "w2"], ["y"], name="second"),
    ]
    weights = {"w1": _normal(1, 6, CHANNELS), "w2": _normal(3, CHANNELS, 3)}
    return as_model(nodes, weights, inputs={"x": ["rows", 5, 6]}, outputs={"y": ["rows", 3]})


def conv_normalised_conv() -> onnx.ModelProto:
    """Conv, bias Add of [1, 16, 1, 1], batch normalisation, Relu, average pooling, Conv without a bias."""
    figures = [_normal(5, CHANNELS), _normal(6, CHANNELS), _normal(7, CHANNELS), np.abs(_normal(8, CHANNELS)) + 0.5]
    nodes = [
        node("Conv", ["x", "w1"], ["h"], name="first"),
        node("Add", ["h", "b1"], ["i"]),
        node("BatchNormalization", ["i", "n0", "n1", "n2", "n3"], ["n"], name="norm"),
        node("Relu", ["n"], ["r"]),
        node("AveragePool", ["r"], ["a"], kernel_shape=[2, 2]),
        node("Conv", ["a", "w2"], ["y"], name="second"),
    ]
    weights = {
        "w1": _normal(1, CHANNELS, 2, 3, 3),
        "b1": _normal(2, 1, CHANNELS, 1, 1),
        "w2": _normal(3, 3, CHANNELS, 2, 2),
        **{f"n{number}": figure for number, figure in enumerate(figures)},
    }
    return as_model(nodes, weights, inputs={"x": ["rows", 2, 6, 6]}, outputs={"y": ["rows", 3, 2, 2]})


def conv_along_time() -> onnx.ModelProto:
    """Conv over one axis, instance normalisation, Conv."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["h"], name="first"),
        node("InstanceNormalization", ["h", "n0", "n1"], ["a"], name="norm"),
        node("Conv", ["a", "w2", "b2"], ["y"], name="second"),
    ]
    weights = {"w1": _normal(1, CHANNELS, 2, 3), "b1": _normal(2, CHANNELS), "w2": _normal(3, 3, CHANNELS, 2)}
    weights |= {"b2": _normal(4, 3), "n0": _normal(5, CHANNELS), "n1": _normal(6, CHANNELS)}
    return as_model(nodes, weights, inputs={"x": ["rows", 2, 9]}, outputs={"y": ["rows", 3, 6]})


def conv_flatten_dense() -> onnx.ModelProto:
    """Conv, max pooling to 3 x 3, Flatten, a vector with one number a place, Gemm with factors."""
    between = [
        node("MaxPool", ["h"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["m"], ["f"], axis=1),
        node("Add", ["f", "v"], ["a"]),
    ]
    return _maps(between, {"v": _normal(5, CHANNELS * 9)}, "a", CHANNELS * 9)


def conv_reshape_dense(shape: tuple[int, int] = (0, -1), rows: int | str = "rows") -> onnx.ModelProto:
    """Conv, Reshape to a matrix, Gemm."""
    between = [node("Reshape", ["h", "shape"], ["a"], name="reshape")]
    return _maps(between, {"shape": _whole(*shape)}, "a", CHANNELS * 36, rows=rows)


def conv_mean_dense() -> onnx.ModelProto:
    """Conv, the mean of each map, Squeeze, Gemm."""
    between = [
        node("GlobalAveragePool", ["h"], ["m"]),
        node("Squeeze", ["m", "places"], ["a"]),
    ]
    return _maps(between, {"places": _whole(2, 3)}, "a", CHANNELS)


def residual() -> onnx.ModelProto:
    """Three Gemm of equal width; the first's output is added to the second's, whose own channels leave with it."""
    nodes = [
        node("Gemm", ["x", "w1"], ["h"], name="first"),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w2"], ["i"], name="second"),
        node("Add", ["i", "r"], ["s"], name="around"),
        node("Gemm", ["s", "w3"], ["y"], name="third"),
    ]
    weights = {"w1": _normal(1, 6, CHANNELS), "w2": _normal(2, CHANNELS, CHANNELS), "w3": _normal(3, CHANNELS, 3)}
    return as_model(nodes, weights, inputs={"x": ["rows", 6]}, outputs={"y": ["rows", 3]})


def depthwise() -> onnx.ModelProto:
    """Conv, depthwise Conv, Conv."""
    nodes = [
        node("Conv", ["x", "w1"], ["h"], name="first"),
        node("Conv", ["h", "w2"], ["i"], name="depthwise", group=CHANNELS),
        node("Conv", ["i", "w3"], ["y"], name="third"),
    ]
    weights = {"w1": _normal(1, CHANNELS, 2, 1, 1), "w2": _normal(2, CHANNELS, 1, 3, 3)}
    weights["w3"] = _normal(3, 3, CHANNELS, 1, 1)
    return as_model(nodes, weights, inputs={"x": ["rows", 2, 6, 6]}, outputs={"y": ["rows", 3, 4, 4]})


def branching() -> onnx.ModelProto:
    """A Gemm that two others read."""
    nodes = [
        node("Gemm", ["x", "w1"], ["h"], name="first"),
        node("Gemm", ["h", "w2"], ["y"], name="left"),
        node("Gemm", ["h", "w3"], ["z"], name="right"),
    ]
    weights = {"w1": _normal(1, 6, CHANNELS), "w2": _normal(2, CHANNELS, 3), "w3": _normal(3, CHANNELS, 3)}
    return as_model(nodes, weights, inputs={"x": ["rows", 6]}, outputs={"y": ["rows", 3], "z": ["rows", 3]})


def tied() -> onnx.ModelProto:
    """Three Gemm, of which the last two share their weight."""
    nodes = [
        node("Gemm", ["x", "w1"], ["h"], name="first"),
        node("Gemm", ["h", "w2"], ["i"], name="second"),
        node("Gemm", ["i", "w2"], ["y"], name="third"),
    ]
    weights = {"w1": _normal(1, 6, CHANNELS), "w2": _normal(2, CHANNELS, CHANNELS)}
    return as_model(nodes, weights, inputs={"x": ["rows", 6]}, outputs={"y": ["rows", CHANNELS]})


def softmax_between() -> onnx.ModelProto:
    """Gemm, Softmax, Gemm: every channel's value depends on all others."""
    return _dense([node("Softmax", ["h"], ["a"], name="attention")], {}, "a")


PRUNABLE: dict[str, Callable[[], onnx.ModelProto]] = {
    made.__name__: made
    for made in (
        dense_relu,
        dense_normalised,
        dense_with_constant_nodes,
        sequence_gelu,
        sequence_mean,
        conv_normalised_conv,
        conv_along_time,
        conv_flatten_dense,
        conv_reshape_dense,
        conv_mean_dense,
    )
} | {
    "conv_reshape_to_a_known_width": lambda: conv_reshape_dense((-1, CHANNELS * 36)),
    "conv_reshape_with_fixed_rows": lambda: conv_reshape_dense((ROWS, -1), ROWS),
}
"""By name: networks with one chain, from `first` to `second`, whose weight is `w2`."""


def inputs_for(model: onnx.ModelProto, rows: int = 4 * ROWS, seed: int = 11) -> dict[str, np.ndarray]:
    """Return as many rows of x."""
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(seed).normal(size=(rows, *shape[1:])).astype(np.float32)}


def rewrite(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change an initializer of a model."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))


def values_of(model: onnx.ModelProto, name: str) -> np.ndarray:
    """Return an initializer's numbers."""
    return numpy_helper.to_array(next(tensor for tensor in model.graph.initializer if tensor.name == name))


def replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a model these nodes; they may be its own."""
    copies = [onnx.NodeProto.FromString(one.SerializeToString()) for one in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
