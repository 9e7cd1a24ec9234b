"""Writing the graphs of students: small networks that take their teacher's place under its very signature.

Devices, golden tensors and callers know a model by the names, types and shapes of its inputs and outputs; a student
keeps them all, the free first dimension too. Operators have the forms of opset 13, and the teacher's own opset is kept
where it is newer, so that a student runs wherever its teacher does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from controller.artifacts.graph.weights import Floats

OPSET_MIN = 13
"""The first in which Squeeze takes its axes as an input."""
IR_VERSION_MIN = 7
POOLED_SIDE_MIN = 4
"""Maps with a shorter side are not halved any more."""
FLAT_PLACES_MAX = 64
"""Maps with more places than this are averaged before the last layer, which would be most of the student."""


@dataclass(frozen=True)
class Signature:
    """What a student takes over from its teacher."""

    input: onnx.ValueInfoProto
    outputs: tuple[onnx.ValueInfoProto, ...]
    """All of them, in their order: the scores, and perhaps the label."""
    scores: str
    """The output that the student learns."""
    column: bool
    """Whether scores are [rows] instead of [rows, width]."""
    label: str | None
    """The output that names the class with the largest score, int64 [rows]."""
    opset: int
    ir_version: int


@dataclass(frozen=True)
class Dense:
    """One dense layer: `x @ weights + biases`."""

    weights: Floats
    """[inputs, outputs]"""
    biases: Floats
    """[outputs]"""

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return self.weights.size + self.biases.size


@dataclass(frozen=True)
class Convolution:
    """One 3x3 convolution with a border of zeros, its ReLU, and perhaps a maximum over squares of 2x2 after it."""

    weights: Floats
    """[channels, channels before, 3, 3]"""
    biases: Floats
    """[channels]"""
    halved: bool

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return self.weights.size + self.biases.size


@dataclass(frozen=True)
class Outline:
    """What follows from the image's size and the wanted channels."""

    halved: tuple[bool, ...]
    """For each convolution, whether its map is halved afterwards."""
    averaged: bool
    """Whether the last map is averaged over its places."""
    features: int
    """How many numbers the last layer takes."""


class _Body:
    """Nodes and weights in the making; names that the signature has are not given again."""

    def __init__(self, signature: Signature) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._taken = {signature.input.name, *(output.name for output in signature.outputs)}
        self._counted: dict[str, int] = {}

    def add(self, operator: str, inputs: Sequence[str], result: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its result."""
        self._counted[operator] = self._counted.get(operator, 0) + 1
        name = f"{_NODE_NAMES.get(operator, operator.lower())}{self._counted[operator]}"
        result = result or self._free(f"{name}_out")
        self.nodes.append(helper.make_node(operator, inputs, [result], name=name, **attributes))
        return result

    def constant(self, name: str, values: np.ndarray) -> str:
        """Add an initializer and return its name."""
        name = self._free(name)
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def dense(self, flowing: str, layers: Sequence[Dense]) -> str:
        """Add dense layers with a ReLU between any two."""
        for number, layer in enumerate(layers, start=1):
            weights = self.constant(f"dense{number}_weights", layer.weights.astype(np.float32))
            biases = self.constant(f"dense{number}_biases", layer.biases.astype(np.float32))
            flowing = self.add("Gemm", [flowing, weights, biases])
            if number < len(layers):
                flowing = self.add("Relu", [flowing])
        return flowing

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


_NODE_NAMES = {"Gemm": "dense", "Conv": "convolution"}


Ending = Literal["Softmax", "Sigmoid"] | None
"""What makes probabilities of a student's scores, where its teacher answers with such."""


def dense_student(signature: Signature, layers: Sequence[Dense], *, ending: Ending) -> onnx.ModelProto:
    """Return dense layers with ReLU between them, and perhaps an ending. Inputs are flattened."""
    body = _Body(signature)
    flowing = signature.input.name
    if len(signature.input.type.tensor_type.shape.dim) != 2:
        flowing = body.add("Flatten", [flowing], axis=1)
    return _finished(signature, body, body.dense(flowing, layers), ending)


def outline(height: int, width: int, channels: Sequence[int]) -> Outline:
    """Return how a convolutional student for images of this size goes on from layer to layer."""
    halved = []
    for _ in channels:
        halved.append(min(height, width) >= POOLED_SIDE_MIN)
        if halved[-1]:
            height, width = height // 2, width // 2
    averaged = height * width > FLAT_PLACES_MAX
    return Outline(tuple(halved), averaged, channels[-1] * (1 if averaged else height * width))


def convolutional_student(
    signature: Signature,
    image: tuple[int, int, int],
    convolutions: Sequence[Convolution],
    head: Dense,
    *,
    ending: Ending,
) -> onnx.ModelProto:
    """Return convolutions and one dense layer over images [channels, height, width], which may come flattened."""
    body = _Body(signature)
    flowing = signature.input.name
    if len(signature.input.type.tensor_type.shape.dim) != 4:
        # A zero keeps the dimension as it comes.
        flowing = body.add("Reshape", [flowing, body.constant("image_shape", np.array([0, *image], np.int64))])
    for number, layer in enumerate(convolutions, start=1):
        weights = body.constant(f"convolution{number}_weights", layer.weights.astype(np.float32))
        biases = body.constant(f"convolution{number}_biases", layer.biases.astype(np.float32))
        flowing = body.add("Conv", [flowing, weights, biases], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        flowing = body.add("Relu", [flowing])
        if layer.halved:
            flowing = body.add("MaxPool", [flowing], kernel_shape=[2, 2], strides=[2, 2])
    if outline(image[1], image[2], [len(layer.biases) for layer in convolutions]).averaged:
        flowing = body.add("GlobalAveragePool", [flowing])
    flowing = body.add("Flatten", [flowing], axis=1)
    return _finished(signature, body, body.dense(flowing, [head]), ending)


def _finished(signature: Signature, body: _Body, flowing: str, ending: Ending) -> onnx.ModelProto:
    if ending:
        flowing = body.add("Softmax", [flowing], axis=1) if ending == "Softmax" else body.add("Sigmoid", [flowing])
    if signature.column:
        flowing = body.add("Squeeze", [flowing, body.constant("columns", np.array([1], np.int64))])
    body.nodes[-1].output[0] = flowing = signature.scores
    if signature.label:
        body.add("ArgMax", [flowing], signature.label, axis=1, keepdims=0)
    graph = helper.make_graph(body.nodes, "student", [signature.input], signature.outputs, body.weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", signature.opset)], ir_version=signature.ir_version
    )
    onnx.checker.check_model(model, full_check=True)
    return model
