"""Making a graph ready for cutting: every constant an initializer with one reader, every consumer with a bias.

Cutting then touches initializers alone, and nodes, names and their order stay as they are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts.graph.chains import Chain, captured_names
from controller.artifacts.graph.weights import COMPUTE, Floats, channel_axis

_IR_WITH_FREE_INITIALIZERS = 4
"""From this version on, initializers need not be listed among the inputs."""
_KEEP_ROWS = np.array([0, -1], np.int64)


class Names:
    """Gives names that the graph does not use."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)}
        self._taken |= {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}

    def like(self, name: str) -> str:
        """Return a free name that begins with the one given."""
        number = next(number for number in range(1, len(self._taken) + 2) if f"{name}_{number}" not in self._taken)
        self._taken.add(f"{name}_{number}")
        return f"{name}_{number}"


def initializers(model: onnx.ModelProto) -> dict[str, TensorProto]:
    """Return the initializers by name, as they are in the graph: writing to them changes it."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def lift_constants(model: onnx.ModelProto) -> None:
    """Turn Constant nodes into initializers, and initializers that are also inputs into initializers alone."""
    graph = model.graph
    outputs = {output.name for output in graph.output}
    lifted = [
        (node, found.t)
        for node in graph.node
        for found in node.attribute
        if node.op_type == "Constant" and found.name == "value" and node.output[0] not in outputs
    ]
    for node, tensor in lifted:
        graph.initializer.append(tensor)
        graph.initializer[-1].name = node.output[0]
        graph.node.remove(node)
    held = {tensor.name for tensor in graph.initializer}
    for value in [value for value in graph.input if value.name in held]:
        graph.input.remove(value)
    model.ir_version = max(model.ir_version, _IR_WITH_FREE_INITIALIZERS)


def part_vectors(model: onnx.ModelProto) -> dict[str, str]:
    """Give every reader of a shared FP32 vector its own copy.

    Returns the names of the shared by those of the copies, for `join_vectors`. Exporters store equal vectors once,
    such as the zeros of fresh normalisations, though nothing ties them together.
    """
    names, held, reads = Names(model.graph), initializers(model), _reads(model)
    weights = {node.input[1] for node in model.graph.node if len(node.input) > 1 and node.op_type in COMPUTE}
    inside = {name for node in model.graph.node for name in captured_names(node)}
    apart = weights | inside | {output.name for output in model.graph.output}
    shared = {name for name, tensor in held.items() if reads[name] > 1 and _is_vector(tensor)} - apart
    copies: dict[str, str] = {}
    for node, place, name in list(_reads_of(model, shared)):
        node.input[place] = _added(model, names.like(name), numpy_helper.to_array(held[name]))
        copies[node.input[place]] = name
    return copies


def join_vectors(model: onnx.ModelProto, copies: dict[str, str]) -> None:
    """Undo `part_vectors` where the copy is still equal, and drop constants that nothing reads any more."""
    held = initializers(model)
    equal = {copy: name for copy, name in copies.items() if _equal(held[copy], held[name])}
    for node, place, name in list(_reads_of(model, equal)):
        node.input[place] = equal[name]
    unread = (copies.keys() | set(copies.values())) - _reads(model).keys()
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name in unread]:
        model.graph.initializer.remove(tensor)


def give_biases(model: onnx.ModelProto, chains: Iterable[Chain]) -> dict[str, str]:
    """Make sure that every consumer adds a constant vector; return the vectors' names by the consumer's weight."""
    return {chain.weight: _bias_for(model, chain.weight) for chain in chains}


def free_reshapes(model: onnx.ModelProto, chains: Iterable[Chain]) -> None:
    """Let the Reshape nodes of chains count channels themselves, instead of telling how many there are."""
    between = {name for chain in chains for name in chain.reshapes}
    names = Names(model.graph)
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.output[0] in between:
            shape = numpy_helper.from_array(_KEEP_ROWS, names.like(node.input[1]))
            model.graph.initializer.append(shape)
            node.input[1] = shape.name


def _is_vector(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) == max(tensor.dims, default=0)


def _reads(model: onnx.ModelProto) -> Counter[str]:
    return Counter(name for node in model.graph.node for name in node.input)


def _reads_of(model: onnx.ModelProto, names: Iterable[str]) -> Iterator[tuple[onnx.NodeProto, int, str]]:
    wanted = set(names)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name in wanted:
                yield node, place, name


def _equal(one: TensorProto, other: TensorProto) -> bool:
    return one.dims == other.dims and numpy_helper.to_array(one).tobytes() == numpy_helper.to_array(other).tobytes()


def _bias_for(model: onnx.ModelProto, weight: str) -> str:
    node = next(node for node in model.graph.node if weight in node.input)
    if node.op_type == "MatMul":
        return _following_add(model, node)
    held, names = initializers(model), Names(model.graph)
    alpha, beta = (_taken_out(node, name) for name in ("alpha", "beta"))
    _write(held[weight], alpha * numpy_helper.to_array(held[weight]))
    zeros = np.zeros(held[weight].dims[channel_axis(node, len(held[weight].dims))], np.float32)
    if len(node.input) > 2 and node.input[2]:
        bias = _own(model, node, 2)
        _write(bias, beta * numpy_helper.to_array(bias) + zeros)
    else:
        del node.input[2:]
        node.input.append(_added(model, names.like(f"{weight}_bias"), zeros))
    return str(node.input[2])


def _following_add(model: onnx.ModelProto, node: onnx.NodeProto) -> str:
    held, names = initializers(model), Names(model.graph)
    zeros = np.zeros(held[node.input[1]].dims[-1], np.float32)
    readers = [reader for reader in model.graph.node if node.output[0] in reader.input]
    ends_here = node.output[0] not in {output.name for output in model.graph.output}
    if ends_here and len(readers) == 1 and readers[0].op_type == "Add":
        constants = [place for place, name in enumerate(readers[0].input) if name in held]
        if constants:
            bias = _own(model, readers[0], constants[0])
            _write(bias, numpy_helper.to_array(bias) + zeros)
            return str(bias.name)
    result, product = node.output[0], names.like(node.output[0])
    node.output[0] = product
    added = _added(model, names.like(f"{node.input[1]}_bias"), zeros)
    place = next(place for place, found in enumerate(model.graph.node) if product in found.output)
    label = f"{node.name or result}_bias"
    model.graph.node.insert(place + 1, helper.make_node("Add", [product, added], [result], name=label))
    return added


def _own(model: onnx.ModelProto, node: onnx.NodeProto, place: int) -> TensorProto:
    # What other nodes read too is copied before it is changed.
    name = node.input[place]
    if _reads(model)[name] > 1:
        node.input[place] = _added(
            model, Names(model.graph).like(name), numpy_helper.to_array(initializers(model)[name])
        )
    return initializers(model)[node.input[place]]


def _taken_out(node: onnx.NodeProto, name: str) -> float:
    # A Gemm's factors of product and bias become 1, their default.
    found = next((found for found in node.attribute if found.name == name), None)
    if found is None:
        return 1.0
    node.attribute.remove(found)
    return float(found.f)


def _write(tensor: TensorProto, values: npt.NDArray[np.floating]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))


def _added(model: onnx.ModelProto, name: str, values: Floats) -> str:
    model.graph.initializer.append(numpy_helper.from_array(values, name))
    return name
