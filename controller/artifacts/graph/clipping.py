"""Clip nodes behind compute nodes: where they go, and putting them there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from controller.artifacts.graph.stripping import graphs_of, replace
from controller.artifacts.graph.weights import weights_of
from controller.artifacts.steps.interface import inapplicable

OPSET_MIN = 11
"""From here on Clip takes its bounds as inputs."""


@dataclass(frozen=True)
class ClipPoint:
    """A tensor that a Clip node may saturate."""

    tensor: str
    signed: bool
    """False behind a Relu, where nothing is below 0."""


def clip_points(model: onnx.ModelProto) -> list[ClipPoint]:
    """Return the results of compute nodes with constant weights, behind their bias and Relu.

    Outputs of the model are left alone: what it answers is not to be saturated. InvalidInput below opset 11.
    """
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < OPSET_MIN:
        raise inapplicable(
            f"activations are clipped from opset {OPSET_MIN} on, and the model has {opset}; export for a later "
            "opset, or set activations to false"
        )
    outputs = {value.name for value in model.graph.output}
    readers = defaultdict(list)
    for graph in graphs_of(model.graph):
        for node in graph.node:
            for name in node.input:
                readers[name].append(node)
    constants = {tensor.name for tensor in model.graph.initializer}
    points = {}
    for weight in weights_of(model):
        tensor = weight.node.output[0]
        for follower in ("Add", "Relu"):
            tensor = _behind(tensor, follower, readers, outputs, constants)
        if tensor not in outputs:
            points[tensor] = ClipPoint(tensor, signed=_maker(model, tensor) != "Relu")
    return list(points.values())


def insert_clips(model: onnx.ModelProto, points: Sequence[ClipPoint], bounds: Mapping[str, float]) -> None:
    """Put a Clip behind each point, in place: from -bound, or 0 where nothing is below it, to the bound."""
    by_tensor = {point.tensor: point for point in points}
    nodes = []
    for node in model.graph.node:
        made = next((by_tensor[name] for name in node.output if name in by_tensor), None)
        nodes.append(node)
        if made is None:
            continue
        raw, limits = f"{made.tensor}_unclipped", [f"{made.tensor}_clip_low", f"{made.tensor}_clip_high"]
        node.output[list(node.output).index(made.tensor)] = raw
        bound = bounds[made.tensor]
        for name, limit in zip(limits, (-bound if made.signed else 0.0, bound), strict=True):
            model.graph.initializer.append(numpy_helper.from_array(np.array(limit, np.float32), name))
        nodes.append(helper.make_node("Clip", [raw, *limits], [made.tensor], name=f"{made.tensor}_clip"))
    replace(model.graph.node, nodes)


def _behind(
    tensor: str,
    operator: str,
    readers: Mapping[str, list[onnx.NodeProto]],
    outputs: set[str],
    constants: set[str],
) -> str:
    """Return what the only reader makes of the tensor if it is of that operator, with constants else; or the tensor."""
    if tensor in outputs or len(readers[tensor]) != 1:
        return tensor
    (reader,) = readers[tensor]
    others = set(reader.input) - {tensor}
    return str(reader.output[0]) if reader.op_type == operator and others <= constants else tensor


def _maker(model: onnx.ModelProto, tensor: str) -> str:
    return next(str(node.op_type) for node in model.graph.node if tensor in node.output)
