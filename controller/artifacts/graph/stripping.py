"""Taking out of a graph what inference never reads, and making constants of what only looks variable."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import numpy_helper

_UNREAD = frozenset({"doc_string", "metadata_props", "training_info", "value_info"})
_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
_IR_WITH_CONSTANT_WEIGHTS = 4
"""Before this version of the format every initializer had to be an input, too."""


def strip(model: onnx.ModelProto) -> None:
    """Remove descriptions, metadata, training steps and inferred shapes, in place, everywhere in the model."""
    _clear(model)


def freeze(model: onnx.ModelProto) -> None:
    """Make every initializer a constant, in place: no longer an input whose value a caller might replace."""
    names = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in names]
    if len(kept) < len(model.graph.input):
        replace(model.graph.input, kept)
    model.ir_version = max(model.ir_version, _IR_WITH_CONSTANT_WEIGHTS)


def constants_to_initializers(model: onnx.ModelProto) -> int:
    """Turn Constant nodes of numbers into initializers of their graph, in place; return how many there were.

    Those whose value is an output of the graph stay, and so do texts and sparse values.
    """
    turned = 0
    for graph in graphs_of(model.graph):
        outputs = {value.name for value in graph.output}
        kept = []
        for node in graph.node:
            tensor = _constant(node) if node.op_type == "Constant" and node.output[0] not in outputs else None
            if tensor is None:
                kept.append(node)
            else:
                graph.initializer.append(tensor)
                turned += 1
        replace(graph.node, kept)
    return turned


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside its nodes, outer ones first."""
    yield graph
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        inner = [attribute.g] if attribute.HasField("g") else attribute.graphs
        for found in inner:
            yield from graphs_of(found)


def replace(field: Any, messages: list[Message]) -> None:
    """Set a repeated field of a graph, in place; the messages may be its own."""
    copies = [type(message).FromString(message.SerializeToString(deterministic=True)) for message in messages]
    del field[:]
    field.extend(copies)


def _clear(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in _UNREAD:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                _clear(inner)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    for attribute in node.attribute:
        if attribute.name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(attribute.t)
            tensor.name = node.output[0]
            return tensor
        if attribute.name in _NUMBERS:
            value = onnx.helper.get_attribute_value(attribute)
            return numpy_helper.from_array(np.array(value, _NUMBERS[attribute.name]), node.output[0])
    return None
