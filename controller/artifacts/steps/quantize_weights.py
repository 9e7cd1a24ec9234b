"""Quantize large matrices in blocks of 4 or 8 bits, and lookup tables in rows of 8; activations stay floats.

A matrix becomes one com.microsoft.MatMulNBits node, which every onnxruntime has. Each block of `block_size` weights
of a column has a scale of its own, and without `symmetric` a zero point. A table becomes INT8 rows, each with a scale
for its largest value: Mul(Cast(Gather(rows)), Gather(scales)).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts.graph.exclusions import Layer, layers_of, name_nodes, trial_of
from controller.artifacts.graph.quantized import Quantization, quiet, refuse_quantized, tidy
from controller.artifacts.graph.weights import attribute, copy_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable
from controller.artifacts.steps.parameters import QuantizeWeights
from controller.domain.errors import InvalidInput

OPERATORS = ("MatMul", "Gemm", "Gather")
MATRIX_ELEMENTS_MIN = 4096
"""Smaller matrices, of less than 16 KiB, save too little to be worth a node of a kind that only onnxruntime knows."""
TABLE_ELEMENTS_MIN = 65_536
TABLE_BITS = 8
_INT8_MAX = 127


def apply(model: onnx.ModelProto, parameters: QuantizeWeights, calibration: Calibration | None, tell: Tell) -> Applied:
    """Quantize the constant matrices of MatMul and Gemm, and with `embeddings` the tables of Gather.

    InvalidInput: `recipe_inapplicable` for graphs that are quantized already or hold no large matrix,
    `recipe_parameters` for unknown nodes in `exclude`, `calibration_missing` for measured exclusions.
    """
    called = f"int{parameters.bits} in blocks"
    refuse_quantized(model, called)
    source = copy_of(model)
    name_nodes(source)
    layers = _large_layers(source, parameters)
    if not layers:
        raise _nothing_large(source, called)

    def quantized(left_alone: frozenset[str]) -> onnx.ModelProto:
        return _quantized(source, [layer.name for layer in layers if layer.name not in left_alone], parameters)

    subject = Quantization(
        called, parameters.bits, model, source, source, layers, OPERATORS, quantized, most_weights=False
    )
    trial = trial_of(model, calibration, parameters.exclude, "quantize_weights")
    applied = subject.run(parameters.exclude, trial, tell)
    told = {
        "per_channel": False,
        "block_size": parameters.block_size,
        "symmetric": parameters.symmetric,
        "embeddings": parameters.embeddings,
    }
    return replace(applied, facts={**applied.facts, **told})


def _large_layers(model: onnx.ModelProto, parameters: QuantizeWeights) -> list[Layer]:
    """Return the layers whose constant is a large matrix or table that nothing else reads."""
    uses = Counter(name for node in model.graph.node for name in node.input)
    nodes = {node.name: node for node in model.graph.node}
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    found = []
    for layer in layers_of(model, OPERATORS, parameters.bits):
        weight, node = layer.weights[0], nodes[layer.name]
        if ranks[weight] != 2 or uses[weight] > 1:
            continue
        if node.op_type == "Gather":
            if parameters.embeddings and layer.elements >= TABLE_ELEMENTS_MIN and not attribute(node, "axis", 0):
                found.append(replace(layer, bits=TABLE_BITS))
        elif node.input[1] == weight and _elements(model, weight) >= MATRIX_ELEMENTS_MIN and _is_plain(node):
            found.append(layer)
    return found


def _elements(model: onnx.ModelProto, name: str) -> int:
    return next(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.name == name)


def _is_plain(node: onnx.NodeProto) -> bool:
    # A Gemm that is a MatMul and an Add; every MatMul is plain.
    factors = {found.f for found in node.attribute if found.name in ("alpha", "beta")}
    return factors <= {1.0} and not attribute(node, "transA", 0)


def _nothing_large(model: onnx.ModelProto, called: str) -> InvalidInput:
    layers = layers_of(model, OPERATORS)
    largest = max(layers, key=lambda layer: layer.elements, default=None)
    shown = f"its largest is {largest.name} with {largest.elements}" if largest else "it has none at all"
    return inapplicable(
        f"{called} works on matrices of {MATRIX_ELEMENTS_MIN} elements or more that one MatMul or Gemm reads, and with "
        f"`embeddings` on tables of {TABLE_ELEMENTS_MIN} or more that one Gather reads, and this model has no such "
        f"({shown}); leave {called} out"
    )


def _quantized(source: onnx.ModelProto, wanted: Sequence[str], parameters: QuantizeWeights) -> onnx.ModelProto:
    made = copy_of(source)
    _replace_nodes(made, wanted)
    with quiet():
        # Imported here, because the module sets up logging for everybody.
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            made,
            bits=parameters.bits,
            block_size=parameters.block_size,
            is_symmetric=parameters.symmetric,
            nodes_to_exclude=sorted(set(_matmuls(made.graph)) - set(wanted)),
        )
        quantizer.process()
    quantized: onnx.ModelProto = quantizer.model.model
    tidy(quantized)
    return quantized


def _matmuls(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.op_type == "MatMul":
            yield node.name
        for found in node.attribute:
            for inner in (found.g, *found.graphs):
                yield from _matmuls(inner)


def _replace_nodes(model: onnx.ModelProto, wanted: Sequence[str]) -> None:
    """Turn, in place, wanted Gemms into MatMul and Add, and wanted tables into rows with scales."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name in wanted and node.op_type == "Gemm":
            nodes += _split(node, constants[node.input[1]])
        elif node.name in wanted and node.op_type == "Gather":
            nodes += _looked_up(node, constants[node.input[0]], model.graph)
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _split(gemm: onnx.NodeProto, matrix: onnx.TensorProto) -> list[onnx.NodeProto]:
    if attribute(gemm, "transB", 0):
        transposed = np.ascontiguousarray(numpy_helper.to_array(matrix).T)
        matrix.CopyFrom(numpy_helper.from_array(transposed, matrix.name))
    left, right, *bias = gemm.input
    if not bias or not bias[0]:
        return [helper.make_node("MatMul", [left, right], list(gemm.output), name=gemm.name)]
    product = f"{gemm.output[0]}_product"
    return [
        helper.make_node("MatMul", [left, right], [product], name=gemm.name),
        helper.make_node("Add", [product, bias[0]], list(gemm.output), name=f"{gemm.name}_bias"),
    ]


def _looked_up(gather: onnx.NodeProto, table: onnx.TensorProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    values = numpy_helper.to_array(table)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scales = np.where(largest > 0, largest / _INT8_MAX, 1).astype(np.float32)
    rows = np.rint(values / scales).astype(np.int8)
    name, places, result = table.name, gather.input[1], gather.output[0]
    graph.initializer.remove(table)
    graph.initializer.extend(
        [numpy_helper.from_array(rows, f"{name}_rows"), numpy_helper.from_array(scales, f"{name}_scales")]
    )
    return [
        helper.make_node("Gather", [f"{name}_rows", places], [f"{result}_rows"], name=gather.name),
        helper.make_node("Cast", [f"{result}_rows"], [f"{result}_cast"], f"{gather.name}_cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}_scales", places], [f"{result}_scales"], name=f"{gather.name}_scales"),
        helper.make_node("Mul", [f"{result}_cast", f"{result}_scales"], [result], name=f"{gather.name}_scaled"),
    ]
