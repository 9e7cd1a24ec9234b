"""Describing an ONNX model: signature, operators, weights, and how much memory it will need.

Estimate of the peak memory, for one row and with every other free dimension taken as 1:

    memory_bytes = 2 * weights + largest activations

Weights count twice, because the runtime holds the parsed file and its own copy (often repacked) at once while it
loads. The largest activations are those of the node whose inputs and outputs, weights left out, are largest
together, as shape inference tells them; where it tells nothing, they count as nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx

from controller.artifacts.findings import ModelFacts
from controller.artifacts.graph.reading import HOW_TO_EXPORT, refused, sparse_tensors_of, tensors_of
from device_agent.protocol.manifest import TensorSpec

TENSORS_MAX = 256
"""Inputs or outputs of a model: as many as a manifest may name."""
OPERATORS_MAX = 1000
"""Kinds of operators of a model: as many as a manifest may name."""
NAME_MAX = 256
"""Characters of the name of an input or output that a manifest takes."""
RANK_MAX = 64
"""Dimensions of an input or output: as many as numpy's arrays have."""
OPSET_MAX = 1000
MEMORY_BYTES_MAX = 2**53
"""Also the most parameters: JSON's numbers are exact up to here."""
_BLOCKS = ("com.microsoft", "MatMulNBits")
_T = onnx.TensorProto
_DATATYPES: dict[int, str] = {
    _T.BOOL: "BOOL",
    **{getattr(_T, f"UINT{bits}"): f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{getattr(_T, f"INT{bits}"): f"INT{bits}" for bits in (8, 16, 32, 64)},
    _T.FLOAT16: "FP16",
    _T.FLOAT: "FP32",
    _T.DOUBLE: "FP64",
}
"""ONNX element types to those of the Open Inference Protocol. Texts have no golden form and are left out."""
_PRECISIONS: dict[int, str] = {
    _T.FLOAT: "fp32",
    _T.DOUBLE: "fp64",
    _T.FLOAT16: "fp16",
    _T.BFLOAT16: "bf16",
    _T.INT8: "int8",
    _T.UINT8: "int8",
    _T.INT4: "int4",
    _T.UINT4: "int4",
}
"""Element types that weights have; whole numbers of other widths are shapes and indices."""
_BITS_BELOW_A_BYTE: dict[int, int] = {_T.INT4: 4, _T.UINT4: 4}


def describe(model: onnx.ModelProto) -> ModelFacts:
    """Describe a model that `read_model` accepted; InvalidInput where a device could not serve it."""
    weights = [tensor for tensor in tensors_of(model.graph) if tensor.data_type]
    names = {tensor.name for tensor in model.graph.initializer}
    return ModelFacts(
        inputs=_signature([value for value in model.graph.input if value.name not in names], "input"),
        outputs=_signature(model.graph.output, "output"),
        opset=_opset(model),
        operators=_named_operators(model),
        precision=_precision(model.graph, weights),
        parameters=_parameters(model.graph, weights),
        memory_bytes=_memory_bytes(model, weights),
    )


@dataclass(frozen=True)
class _Block:
    """A weight in blocks of few bits: its initializer holds packed bytes."""

    elements: int
    precision: str


def _blocks(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, _Block]]:
    for node in graph.node:
        if (node.domain, node.op_type) != _BLOCKS or len(node.input) < 2:
            continue
        whole = {attribute.name: int(attribute.i) for attribute in node.attribute}
        if {"K", "N", "bits"} <= whole.keys():
            yield node, _Block(whole["K"] * whole["N"], f"int{whole['bits']}")


def _palette_indices(graph: onnx.GraphProto) -> set[str]:
    # Indices into a table of floats are no numbers to compute with: such a model runs as its table says.
    looked_up = {node.input[1] for node in graph.node if node.op_type == "Gather" and len(node.input) > 1}
    return {
        node.input[0]
        for node in graph.node
        if node.op_type == "Cast" and node.input and looked_up.intersection(node.output)
    }


def _signature(values: Iterable[onnx.ValueInfoProto], kind: str) -> tuple[TensorSpec, ...]:
    specs = tuple(_spec(value, kind) for value in values)
    if not 0 < len(specs) <= TENSORS_MAX:
        raise refused("unsupported_signature", f"the model has {len(specs)} {kind}s; 1 to {TENSORS_MAX} can be served")
    return specs


def _spec(value: onnx.ValueInfoProto, kind: str) -> TensorSpec:
    tensor = value.type.tensor_type
    datatype = _DATATYPES.get(tensor.elem_type)
    if len(value.name) > NAME_MAX or len(tensor.shape.dim) > RANK_MAX:
        raise refused(
            "unsupported_signature",
            f"the {kind} {value.name[:NAME_MAX]!r} has a name of {len(value.name)} characters and "
            f"{len(tensor.shape.dim)} dimensions; at most {NAME_MAX} and {RANK_MAX} can be served",
        )
    if datatype is None or not tensor.HasField("shape"):
        raise refused(
            "unsupported_signature",
            f"the {kind} {value.name!r} is not a tensor of numbers with a known rank, which devices serve; "
            "export with plain tensors (skl2onnx: options={'zipmap': False})",
        )
    return TensorSpec(value.name, datatype, tuple(_size(dimension, free=-1) for dimension in tensor.shape.dim))


def _size(dimension: onnx.TensorShapeProto.Dimension, *, free: int) -> int:
    return dimension.dim_value if dimension.dim_value > 0 else free


def _opset(model: onnx.ModelProto) -> int:
    opset = next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if not 0 <= opset <= OPSET_MAX:
        raise refused("unsupported_opset", f"there is no operator set {opset} of ONNX; {HOW_TO_EXPORT}")
    return opset


def _named_operators(model: onnx.ModelProto) -> tuple[str, ...]:
    operators = set(_operators(model.graph))
    if len(operators) > OPERATORS_MAX:
        told = f"the model has {len(operators)} kinds of operators; at most {OPERATORS_MAX} can be named to devices"
        raise refused("too_many_parts", f"{told}: inline its functions")
    return tuple(sorted(operators))


def _operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _operators(inner)


def _elements(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims)


def _parameters(graph: onnx.GraphProto, weights: Iterable[onnx.TensorProto]) -> int:
    blocks = {node.input[1]: block.elements for node, block in _blocks(graph)}
    parameters = sum(blocks.get(tensor.name, _elements(tensor)) for tensor in weights)
    if not 0 <= parameters <= MEMORY_BYTES_MAX:
        raise refused("too_much_memory", f"the model declares {parameters} parameters; {HOW_TO_EXPORT}")
    return parameters


def _precision(graph: onnx.GraphProto, weights: Iterable[onnx.TensorProto]) -> str:
    blocks = {node.input[1]: block for node, block in _blocks(graph)}
    shared = _palette_indices(graph)
    counted = Counter[str]()
    for tensor in weights:
        if tensor.name in blocks:
            counted[blocks[tensor.name].precision] += blocks[tensor.name].elements
        elif tensor.data_type in _PRECISIONS:
            counted["fp32" if tensor.name in shared else _PRECISIONS[tensor.data_type]] += _elements(tensor)
    return max(counted, key=lambda name: (counted[name], name), default="fp32")


def _bytes(element_type: int, elements: int) -> int:
    if element_type in _BITS_BELOW_A_BYTE:
        return -(-elements * _BITS_BELOW_A_BYTE[element_type] // 8)
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(element_type).itemsize)


def _memory_bytes(model: onnx.ModelProto, weights: Iterable[onnx.TensorProto]) -> int:
    held = sum(_bytes(tensor.data_type, _elements(tensor)) for tensor in weights) + _unpacked_bytes(model.graph)
    estimate = 2 * held + _largest_activations(model)
    if estimate > MEMORY_BYTES_MAX:
        raise refused("too_much_memory", f"the model's shapes add up to {estimate} bytes of memory; {HOW_TO_EXPORT}")
    return estimate


def _unpacked_bytes(graph: onnx.GraphProto) -> int:
    # The runtime writes sparse weights out in full when it loads them.
    return sum(_bytes(sparse.values.data_type, math.prod(sparse.dims)) for sparse in sparse_tensors_of(graph))


def _largest_activations(model: onnx.ModelProto) -> int:
    try:
        inferred = onnx.shape_inference.infer_shapes(_with_one_row(model)).graph
    except (onnx.shape_inference.InferenceError, ValueError):
        return 0
    values = {value.name: _value_bytes(value) for value in (*inferred.value_info, *inferred.input, *inferred.output)}
    weights = {tensor.name for tensor in inferred.initializer}
    return max(
        (sum(values.get(name, 0) for name in {*node.input, *node.output} - weights) for node in inferred.node),
        default=0,
    )


def _with_one_row(model: onnx.ModelProto) -> onnx.ModelProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.dim_value = _size(dimension, free=1)
    return fixed


def _value_bytes(value: onnx.ValueInfoProto) -> int:
    tensor = value.type.tensor_type
    if tensor.elem_type not in _DATATYPES:
        return 0
    return _bytes(tensor.elem_type, math.prod(_size(dimension, free=1) for dimension in tensor.shape.dim))
