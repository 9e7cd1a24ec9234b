"""The weights that compression works on: constant matrices and kernels of MatMul, Gemm and Conv."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Floats = npt.NDArray[np.float32]
COMPUTE = ("MatMul", "Gemm", "Conv")
_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Weight:
    """A constant FP32 weight of one node that nothing else reads."""

    name: str
    node: onnx.NodeProto
    """The node of the graph that multiplies by it."""
    tensor: onnx.TensorProto
    """The initializer itself: `set_values` writes to it."""
    axis: int
    """The axis of output channels: 0 for Conv and transposed Gemm, else the last."""

    @property
    def values(self) -> Floats:
        """A copy of the numbers, in the initializer's shape."""
        return numpy_helper.to_array(self.tensor).astype(np.float32)

    def set_values(self, values: npt.NDArray[np.floating]) -> None:
        """Replace the numbers, which may have another shape."""
        replaced = numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float32), self.name)
        self.tensor.CopyFrom(replaced)

    def by_channel(self) -> Floats:
        """Return the numbers as [channels, the rest]."""
        return np.moveaxis(self.values, self.axis, 0).reshape(self.values.shape[self.axis], -1)


def weights_of(model: onnx.ModelProto, *, elements_min: int = 1, operators: Collection[str] = COMPUTE) -> list[Weight]:
    """Return the weights in the order of the graph; those that two nodes share are left out."""
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    found = []
    for node in model.graph.node:
        if node.op_type not in operators or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
            continue
        tensor = initializers.get(node.input[1])
        if tensor is None or tensor.data_type != _FLOAT or len(tensor.dims) < 2 or uses[tensor.name] > 1:
            continue
        if int(np.prod(tensor.dims)) >= elements_min:
            found.append(Weight(tensor.name, node, tensor, channel_axis(node, len(tensor.dims))))
    return found


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """Return the axis of output channels of a compute node's weight."""
    transposed = node.op_type == "Gemm" and attribute(node, "transB", 0)
    return 0 if node.op_type == "Conv" or transposed else rank - 1


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return a whole-number attribute of a node."""
    return next((int(found.i) for found in node.attribute if found.name == name), default)


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that may be changed."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
