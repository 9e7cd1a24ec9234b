"""The layers of a model as a report shows them: shape, bits, sparsity, and how far the weights are from the source's.

The weight of a compute node is found behind whatever stands between: a dequantization, a palette's lookup, a cast.
The error of a layer is |w - source| / |source| in the Frobenius norm, where both have the same shape; a layer that
was reshaped, or that the source does not have, has none.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from controller.artifacts.graph.sessions import Array

LAYERS_MAX = 256
ELEMENTS_MIN = 16
_INTEGER = {"MatMulInteger", "ConvInteger"}
_COMPUTE = {"MatMul", "Gemm", "Conv", *_INTEGER}
_BLOCKS = "MatMulNBits"
_BETWEEN = {"DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity"}
_BITS = {
    onnx.TensorProto.FLOAT: 32,
    onnx.TensorProto.DOUBLE: 64,
    onnx.TensorProto.FLOAT16: 16,
    onnx.TensorProto.INT8: 8,
    onnx.TensorProto.UINT8: 8,
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
}


@dataclass(frozen=True)
class Layer:
    """One layer with a constant weight."""

    name: str
    operator: str
    shape: tuple[int, ...]
    parameters: int
    bits: int
    sparsity: float
    """Share of weights that are zero."""
    error: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return {**asdict(self), "shape": list(self.shape)}


def compare_layers(source: onnx.ModelProto, variant: onnx.ModelProto) -> list[dict[str, Any]]:
    """Return the variant's layers in the graph's order, at most LAYERS_MAX, with their error against the source."""
    originals = {layer.name: values for layer, values in _layers(source)}
    found = []
    for layer, values in _layers(variant):
        original = originals.get(layer.name)
        comparable = original is not None and values is not None and original.shape == values.shape
        error = _error(original, values) if comparable else None
        found.append({**layer.to_json(), "error": error})
        if len(found) == LAYERS_MAX:
            break
    return found


def _layers(model: onnx.ModelProto) -> Iterator[tuple[Layer, Array | None]]:
    graph = _Graph(model)
    for node in model.graph.node:
        if node.op_type == _BLOCKS:
            yield _block_layer(node), None
        elif node.op_type in _COMPUTE and len(node.input) > 1:
            found = graph.weight(node)
            if found and found[0].parameters >= ELEMENTS_MIN:
                yield found


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._makers = {name: node for node in model.graph.node for name in node.output}

    def weight(self, node: onnx.NodeProto) -> tuple[Layer, Array | None] | None:
        name = node.input[1]
        scale: Array | None = None
        zero: Array | None = None
        axis = 1 if node.op_type != "ConvInteger" else 0
        while name not in self._tensors:
            maker = self._makers.get(name)
            if maker is not None and maker.op_type == "Gather" and maker.input[0] in self._tensors:
                return self._shared(node, maker)
            if maker is None or maker.op_type not in _BETWEEN:
                return None
            if maker.op_type == "DequantizeLinear":
                scale, zero = self._values(maker.input[1]), self._values(maker.input[2] if len(maker.input) > 2 else "")
                axis = next((found.i for found in maker.attribute if found.name == "axis"), 1)
            name = maker.input[0]
        if node.op_type in _INTEGER:
            base = name.removesuffix("_quantized")
            scale, zero = self._values(f"{base}_scale"), self._values(f"{base}_zero_point")
        tensor = self._tensors[name]
        if tensor.data_type not in _BITS:
            return None
        values = _dequantized(numpy_helper.to_array(tensor), scale, zero, axis)
        return _layer(name.removesuffix("_quantized"), node, values, _BITS[tensor.data_type]), values

    def _shared(self, node: onnx.NodeProto, lookup: onnx.NodeProto) -> tuple[Layer, Array] | None:
        table = numpy_helper.to_array(self._tensors[lookup.input[0]])
        name = lookup.input[1]
        while name not in self._tensors:
            maker = self._makers.get(name)
            if maker is None or maker.op_type not in _BETWEEN:
                return None
            name = maker.input[0]
        indices = numpy_helper.to_array(self._tensors[name]).astype(np.int64)
        values = table[indices]
        return _layer(lookup.output[0], node, values, _BITS.get(self._tensors[name].data_type, 8)), values

    def _values(self, name: str) -> Array | None:
        tensor = self._tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def _layer(name: str, node: onnx.NodeProto, values: Array, bits: int) -> Layer:
    zeros = float((values == 0).mean()) if values.size else 0.0
    return Layer(name, node.op_type.removesuffix("Integer"), values.shape, int(values.size), bits, zeros)


def _block_layer(node: onnx.NodeProto) -> Layer:
    whole = {found.name: int(found.i) for found in node.attribute}
    shape = (whole["K"], whole["N"])
    name = node.name.removesuffix("_Q4").removesuffix("_Q8") or node.output[0]
    return Layer(name, "MatMul", shape, shape[0] * shape[1], whole["bits"], 0.0)


def _dequantized(stored: Array, scale: Array | None, zero: Array | None, axis: int) -> Array:
    if scale is None:
        return stored.astype(np.float32)
    along = [1] * stored.ndim
    if scale.size > 1:
        along[axis if axis < stored.ndim else 0] = scale.size
    shifted = stored.astype(np.float32) - (0 if zero is None else zero.astype(np.float32).reshape(along))
    return shifted * scale.reshape(along)


def _error(original: Array | None, values: Array | None) -> float | None:
    assert original is not None
    assert values is not None
    norm = float(np.linalg.norm(original.astype(np.float64)))
    difference = float(np.linalg.norm(original.astype(np.float64) - values.astype(np.float64)))
    return difference / norm if norm else difference
