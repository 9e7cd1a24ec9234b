"""Where the channels of a layer lie in the tensors behind it, node by node.

Only nodes that treat every channel for itself are followed, so that a channel can be taken out of all of them at
once: activations, arithmetic with constants, normalisation with fixed figures, pooling over places, and reshaping
that puts the places of a channel behind each other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import numpy_helper

from controller.artifacts.graph.weights import attribute

Shapes = Mapping[str, tuple[int | None, ...]]
"""Shapes by tensor; None is a size that is free."""
Constants = Mapping[str, onnx.TensorProto]

_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Clip", "Identity", "Dropout"),
    *(
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Gelu",
        "Erf",
        "Softplus",
        "Softsign",
        "Mish",
        "Exp",
        "Log",
        "Sqrt",
        "Reciprocal",
        "Abs",
        "Neg",
    ),
)
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min")
_POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "Squeeze")


@dataclass(frozen=True)
class Layout:
    """Where channels lie in a tensor."""

    axis: int
    """Counted from the right, -1 is the last: broadcasting aligns there."""
    rank: int | None
    """None where shape inference tells nothing."""
    flat: bool = False
    """Every channel has several neighbouring entries on the axis, for its places were flattened into it."""

    @property
    def is_second(self) -> bool:
        """Tell whether channels lie behind the rows, where convolution, pooling and normalisation expect them."""
        return self.rank is not None and self.rank + self.axis == 1


@dataclass(frozen=True)
class Slice:
    """A constant with one entry a channel, or one an entry of the axis that channels were flattened into."""

    name: str
    axis: int
    """Counted from the right."""
    flat: bool = False


@dataclass(frozen=True)
class Followed:
    """What a node gives: channels in this layout; the constants go with them."""

    layout: Layout
    slices: tuple[Slice, ...] = ()


class NotFollowed(Exception):
    """A node that does not treat every channel for itself; the words continue "its output goes to ..."."""


def node_label(node: onnx.NodeProto) -> str:
    """Return a node's name, or its first output's where it has none."""
    return str(node.name or node.output[0])


def follow(node: onnx.NodeProto, known: Mapping[str, Layout], constants: Constants, shapes: Shapes) -> Followed:
    """Return where the channels lie behind a node of which at least one input is known; NotFollowed otherwise."""
    handler = _HANDLERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if handler is None:
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, which does not keep channels apart")
    return handler(node, known, constants, shapes)


def slice_of(name: str, tensor: onnx.TensorProto, layout: Layout) -> Slice | None:
    """Return how a constant that is broadcast against channels is cut; None where all channels share its numbers."""
    place = len(tensor.dims) + layout.axis
    return None if place < 0 or tensor.dims[place] == 1 else Slice(name, layout.axis, layout.flat)


def _elementwise(node: onnx.NodeProto, known: Mapping[str, Layout], constants: Constants, shapes: Shapes) -> Followed:
    del shapes
    given = [name for name in node.input if name]
    if any(name not in known and name not in constants for name in given):
        kind = "residual Add" if node.op_type == "Add" else node.op_type
        meets = "" if node.op_type == "Add" else ", where it meets another layer's output"
        raise NotFollowed(f"the {kind} {node_label(node)!r}{meets}")
    layouts = {known[name] for name in given if name in known}
    if len({(layout.axis, layout.flat) for layout in layouts}) > 1:
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, where its channels meet in different order")
    layout = next(iter(layouts))
    fixed = [(name, constants[name]) for name in given if name in constants and name not in known]
    ranks = [found.rank for found in layouts]
    rank = None if None in ranks else max([rank for rank in ranks if rank], default=0)
    highest = max((len(tensor.dims) for _, tensor in fixed), default=0)
    slices = [found for name, tensor in fixed if (found := slice_of(name, tensor, layout))]
    return Followed(replace(layout, rank=None if rank is None else max(rank, highest)), tuple(slices))


def _normalised(node: onnx.NodeProto, known: Mapping[str, Layout], constants: Constants, shapes: Shapes) -> Followed:
    del shapes
    layout, figures = known.get(node.input[0]), list(node.input[1:])
    if layout is None or not layout.is_second or attribute(node, "training_mode", 0):
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, which normalises along another axis")
    if any(name not in constants for name in figures):
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, whose figures are not constant")
    return Followed(layout, tuple(Slice(name, -1, layout.flat) for name in figures))


def _pooled(node: onnx.NodeProto, known: Mapping[str, Layout], constants: Constants, shapes: Shapes) -> Followed:
    del constants, shapes
    layout = known[node.input[0]]
    # The second output of MaxPool counts places through all channels.
    if not layout.is_second or layout.flat or layout.rank == 2 or len(node.output) > 1:
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, which pools over channels or tells indices")
    return Followed(layout)


def _reduced(node: onnx.NodeProto, known: Mapping[str, Layout], constants: Constants, shapes: Shapes) -> Followed:
    del shapes
    layout = known.get(node.input[0])
    if layout is None or layout.rank is None:
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, before which the shape is not known")
    gone = {axis % layout.rank for axis in _axes(node, constants)}
    place = layout.rank + layout.axis
    if not gone or place in gone:
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, which takes channels together")
    if node.op_type != "Squeeze" and attribute(node, "keepdims", 1):
        return Followed(layout)
    behind = sum(axis > place for axis in gone)
    return Followed(replace(layout, axis=layout.axis + behind, rank=layout.rank - len(gone)))


def _axes(node: onnx.NodeProto, constants: Constants) -> list[int]:
    if len(node.input) > 1 and node.input[1]:
        tensor = constants.get(node.input[1])
        return [] if tensor is None else [int(axis) for axis in numpy_helper.to_array(tensor).reshape(-1)]
    return next((list(found.ints) for found in node.attribute if found.name == "axes"), [])


def _flattened(node: onnx.NodeProto, known: Mapping[str, Layout], constants: Constants, shapes: Shapes) -> Followed:
    layout = known.get(node.input[0])
    flattens = _flatten_keeps_rows if node.op_type == "Flatten" else _reshape_keeps_rows
    if layout is None or not layout.is_second or not flattens(node, layout, constants, shapes):
        told = "whose order of channels is not known to be kept"
        raise NotFollowed(f"the {node.op_type} {node_label(node)!r}, {told}")
    return Followed(Layout(-1, 2, layout.flat or layout.rank != 2))


def _flatten_keeps_rows(node: onnx.NodeProto, layout: Layout, constants: Constants, shapes: Shapes) -> bool:
    del constants, shapes
    axis = attribute(node, "axis", 1)
    return layout.rank is not None and axis in (1, 1 - layout.rank)


def _reshape_keeps_rows(node: onnx.NodeProto, layout: Layout, constants: Constants, shapes: Shapes) -> bool:
    del layout
    tensor = constants.get(node.input[1])
    target = [] if tensor is None else numpy_helper.to_array(tensor).reshape(-1).tolist()
    if len(target) != 2 or attribute(node, "allowzero", 0):
        return False
    rows, *others = shapes.get(node.input[0], (None, None))
    sizes = [size for size in others if size is not None]
    width = math.prod(sizes) if len(sizes) == len(others) else None
    return target[0] == 0 or (rows is not None and target[0] == rows) or (width is not None and target[1] == width)


_Handler = Callable[[onnx.NodeProto, Mapping[str, Layout], Constants, Shapes], Followed]
_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys([*_ACTIVATIONS, *_ARITHMETIC], _elementwise),
    **dict.fromkeys(["BatchNormalization", "InstanceNormalization"], _normalised),
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **dict.fromkeys(["Flatten", "Reshape"], _flattened),
}
