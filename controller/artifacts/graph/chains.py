"""Finding prunable chains: a layer whose channels reach one other layer and nothing else.

    producer (MatMul, Gemm, Conv)  ->  nodes that keep channels apart (layouts.py)  ->  consumer (MatMul, Gemm, Conv)

A channel of such a chain can be removed: from the producer's weight, from the constants between, and from the
consumer's weight. Nodes between may part and join again, as an exported GELU does. A layer whose channels leave
otherwise is refused with the reason.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from controller.artifacts.graph.layouts import (
    Constants,
    Layout,
    NotFollowed,
    Shapes,
    Slice,
    follow,
    node_label,
    slice_of,
)
from controller.artifacts.graph.weights import COMPUTE, attribute, channel_axis

_FLOAT = onnx.TensorProto.FLOAT


@dataclass(frozen=True)
class Chain:
    """Two layers with hidden channels between them. All is told by names of initializers, which cuts keep."""

    producer: str
    """The name of the producing node."""
    consumer: str
    channels: int
    repeat: int
    """Entries that a channel has in the consumer's input: places, where they were flattened, else 1."""
    flowing: str
    """The consumer's input."""
    rank: int
    """Of that input, as far as it matters: of a Conv that of its kernel, else 2."""
    producer_weight: str
    slices: tuple[Slice, ...]
    """The producer's weight and all other constants with an entry a channel, without the consumer's."""
    weight: str
    """The consumer's."""
    input_axis: int
    """The axis of the consumer's weight that its input meets."""
    reshapes: tuple[str, ...]
    """First outputs of Reshape nodes between, whose target shape counts the channels."""

    def entries(self, channels: int) -> int:
        """Return how many entries of the consumer's input so many channels take."""
        return channels * self.repeat


@dataclass(frozen=True)
class Refused:
    """A layer that is not prunable, and why."""

    name: str
    reason: str


class _Graph:
    """Who reads what."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.constants: Constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {output.name for output in model.graph.output}
        self.captured = {name for node in self.nodes for name in captured_names(node)}
        self.reads = Counter(name for node in self.nodes for name in node.input)
        self.shapes = shapes_of(model)

    def is_own(self, weight: str) -> bool:
        """Tell whether one node alone reads a weight."""
        return self.reads[weight] == 1 and weight not in self.captured | self.outputs


def find_chains(model: onnx.ModelProto) -> tuple[list[Chain], list[Refused]]:
    """Return the prunable chains in the order of the graph, and every other layer with constant weights."""
    graph = _Graph(model)
    chains, refused = [], []
    for place, node in enumerate(graph.nodes):
        if not _has_constant_weight(node, graph):
            continue
        try:
            chains.append(_chain_from(place, graph))
        except NotFollowed as error:
            refused.append(Refused(node_label(node), str(error)))
    return chains, refused


def shapes_of(model: onnx.ModelProto) -> Shapes:
    """Return the shapes of tensors as far as shape inference tells them."""
    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError):
        graph = model.graph
    return {
        value.name: tuple(
            dimension.dim_value if dimension.HasField("dim_value") else None
            for dimension in value.type.tensor_type.shape.dim
        )
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def captured_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what the graphs inside a node may read from outside, such as the branches of an If."""
    for found in node.attribute:
        for inner in (found.g, *found.graphs):
            yield from (output.name for output in inner.output)
            for nested in inner.node:
                yield from nested.input
                yield from captured_names(nested)


def _has_constant_weight(node: onnx.NodeProto, graph: _Graph) -> bool:
    is_compute = node.op_type in COMPUTE and node.domain in ("", "ai.onnx") and len(node.input) > 1
    return is_compute and len(getattr(graph.constants.get(node.input[1]), "dims", ())) >= 2


def _chain_from(place: int, graph: _Graph) -> Chain:
    producer = graph.nodes[place]
    layout, slices = _start(producer, graph)
    known, reshapes, consumers = {producer.output[0]: layout}, [], []
    _refuse_exit(producer.output[0], graph)
    for node in graph.nodes[place + 1 :]:
        if not any(name in known for name in node.input):
            continue
        try:
            if _has_constant_weight(node, graph) and node.input[0] in known:
                _refuse_consumer(node, known[node.input[0]], graph)
                consumers.append(node)
                continue
            followed = follow(node, known, graph.constants, graph.shapes)
        except NotFollowed as error:
            also = "also " if any(graph.reads[name] > 1 for name in node.input if name in known) else ""
            raise NotFollowed(f"its output {also}goes to {error}") from None
        slices += followed.slices
        reshapes += [node.output[0]] if node.op_type == "Reshape" else []
        for name in filter(None, node.output):
            _refuse_exit(name, graph)
            known[name] = followed.layout
    return _closed(producer, consumers, known, slices, reshapes, graph)


def _start(node: onnx.NodeProto, graph: _Graph) -> tuple[Layout, list[Slice]]:
    weight = graph.constants[node.input[1]]
    _refuse_weight(node, "its", graph)
    rank = len(weight.dims)
    if node.op_type == "Conv":
        layout = Layout(1 - rank, rank)
    elif rank > 2:
        raise NotFollowed(f"its weight {weight.name!r} is a stack of matrices {list(weight.dims)}")
    else:
        known = graph.shapes.get(node.output[0])
        layout = Layout(-1, 2 if node.op_type == "Gemm" else len(known) if known else None)
    slices = [Slice(weight.name, channel_axis(node, rank) - rank)]
    if len(node.input) > 2 and node.input[2]:
        bias = slice_of(node.input[2], graph.constants[node.input[2]], Layout(-1, 1))
        slices += [bias] if bias else []
    return layout, slices


def _refuse_weight(node: onnx.NodeProto, whose: str, graph: _Graph) -> None:
    weight = graph.constants[node.input[1]]
    groups = attribute(node, "group", 1)
    if groups != 1:
        raise NotFollowed(f"it is a grouped convolution (group {groups}), whose channels belong to groups")
    if weight.data_type != _FLOAT:
        raise NotFollowed(f"{whose} weight {weight.name!r} is not FP32; prune before quantizing")
    if not graph.is_own(weight.name):
        raise NotFollowed(f"{whose} weight {weight.name!r} is shared with another node")
    if len(node.input) > 2 and node.input[2] and node.input[2] not in graph.constants:
        raise NotFollowed(f"{whose} bias {node.input[2]!r} is not constant")


def _refuse_consumer(node: onnx.NodeProto, layout: Layout, graph: _Graph) -> None:
    label, weight = f"the {node.op_type} {node_label(node)!r}", graph.constants[node.input[1]]
    groups = attribute(node, "group", 1)
    if groups != 1:
        raise NotFollowed(f"the grouped convolution {node_label(node)!r} (group {groups})")
    try:
        _refuse_weight(node, "whose", graph)
    except NotFollowed as error:
        raise NotFollowed(f"{label}, {error}") from None
    if node.op_type == "Conv":
        fits = layout.is_second and not layout.flat and layout.rank == len(weight.dims)
    else:
        fits = layout.axis == -1 and len(weight.dims) == 2 and not attribute(node, "transA", 0)
    if not fits or sum(name == node.input[0] for name in node.input) > 1:
        raise NotFollowed(f"{label}, which adds up along another axis")


def _refuse_exit(name: str, graph: _Graph) -> None:
    if name in graph.outputs:
        raise NotFollowed(f"its output {name!r} is an output of the model")
    if name in graph.captured:
        raise NotFollowed(f"its output {name!r} is read by a graph inside another node")


def _closed(
    producer: onnx.NodeProto,
    consumers: list[onnx.NodeProto],
    known: dict[str, Layout],
    slices: list[Slice],
    reshapes: list[str],
    graph: _Graph,
) -> Chain:
    if len(consumers) != 1:
        named = ", ".join(repr(node_label(node)) for node in consumers)
        raise NotFollowed(f"its output feeds several layers: {named}" if consumers else "its output feeds no layer")
    consumer = consumers[0]
    weight = graph.constants[consumer.input[1]]
    input_axis = 1 if consumer.op_type == "Conv" or attribute(consumer, "transB", 0) else 0
    dims = graph.constants[producer.input[1]].dims
    channels = dims[channel_axis(producer, len(dims))]
    repeat = weight.dims[input_axis] // channels
    chain = Chain(
        producer=node_label(producer),
        consumer=node_label(consumer),
        channels=channels,
        repeat=repeat,
        flowing=consumer.input[0],
        rank=len(weight.dims),
        producer_weight=producer.input[1],
        slices=tuple(slices),
        weight=weight.name,
        input_axis=input_axis,
        reshapes=tuple(reshapes),
    )
    _refuse_sizes(chain, known[chain.flowing], weight.dims[input_axis], graph)
    return chain


def _refuse_sizes(chain: Chain, layout: Layout, width: int, graph: _Graph) -> None:
    if chain.entries(chain.channels) != width or (chain.repeat > 1 and not layout.flat):
        raise NotFollowed(f"its {chain.channels} channels do not make up the {width} inputs of {chain.consumer!r}")
    names = [cut.name for cut in chain.slices]
    for cut in chain.slices:
        wanted = chain.entries(chain.channels) if cut.flat else chain.channels
        if graph.constants[cut.name].dims[cut.axis] != wanted:
            raise NotFollowed(f"the constant {cut.name!r} behind it does not have one number a channel")
        if names.count(cut.name) > 1 or not graph.is_own(cut.name):
            raise NotFollowed(f"the constant {cut.name!r} behind it is shared with another node")
