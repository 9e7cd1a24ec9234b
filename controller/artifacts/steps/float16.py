"""Half precision: 16 instead of 32 bits for every weight and everything that flows between layers.

FP16 ends at 65,504. A weight beyond it keeps its layer in FP32; a graph that lets answers become infinite because its
activations go beyond is refused. On processors without FP16 arithmetic onnxruntime works in FP32 behind the scenes and
hides that, so it is not looked for in the converted graph but in the source, with every result that is too large
replaced by the infinity that FP16 would make of it.
"""

import heapq
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from controller.artifacts.graph.probing import all_finite, answers, difference, probe
from controller.artifacts.graph.reading import tensors_of
from controller.artifacts.graph.sessions import Tensors
from controller.artifacts.graph.stripping import constants_to_initializers, freeze, graphs_of, replace, strip
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable
from controller.artifacts.steps.parameters import Float16
from controller.domain.errors import InvalidInput

LARGEST = float(np.finfo(np.float16).max)
_INFINITE_FROM = 65_520.0
"""Halfway between the largest number and what would come next: numbers below are rounded down to it."""
_FLOAT, _FLOAT16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def apply(model: onnx.ModelProto, parameters: Float16, calibration: Calibration | None, tell: Tell) -> Applied:
    """Convert; refuses a model without FP32 weights, and one that gives other than finite numbers in FP16.

    Facts: the `share` of weights converted, `kept_fp32` with the weights that FP16 cannot hold, for each layer its
    `precision` and the `relative_error` of its weights, and `largest_relative_error`: the largest difference of an
    output over its largest value, on calibration inputs or drawn ones (`compared_on`).
    """
    del parameters
    source = copy_of(model)
    freeze(source)
    constants_to_initializers(source)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in _floats(source)}
    if not weights:
        raise inapplicable("float16 converts FP32 weights, and this model has none; leave float16 out")
    beyond = {name: _largest(array) for name, array in weights.items() if _largest(array) > LARGEST}
    tell(0.1, f"{len(beyond)} of {len(weights)} weights are beyond FP16 and stay FP32")
    result = _converted(source, set(beyond))
    layers = _layers(weights, result)
    share = sum(layer["elements"] for layer in layers if layer["precision"] == "fp16") / sum(
        map(np.size, weights.values())
    )
    if not share:
        raise inapplicable(
            "every FP32 weight of this model is beyond FP16, or belongs to an operator that works in FP32 only; leave "
            "float16 out"
        )
    tell(0.6, f"{share:.1%} of the weights are FP16; comparing outputs")
    inputs = probe(source, calibration)
    _refuse_overflow(source, inputs)
    error = _compared(source, result, inputs)
    tell(1.0, f"the outputs stray by {error:.1e} of the largest")
    facts = {
        "share": share,
        "kept_fp32": [{"name": name, "largest": largest} for name, largest in beyond.items()],
        "largest_relative_error": error,
        "compared_on": "calibration" if calibration is not None and len(calibration) else "drawn inputs",
        "layers": layers,
    }
    return Applied(result, facts)


def _floats(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in tensors_of(model.graph) if tensor.data_type == _FLOAT and tensor.name)


def _largest(array: np.ndarray) -> float:
    # Infinities are the same in both precisions, for example in masks.
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _converted(source: onnx.ModelProto, beyond: set[str]) -> onnx.ModelProto:
    prepared = copy_of(source)
    blocked = []
    for number, node in enumerate(node for graph in graphs_of(prepared.graph) for node in graph.node):
        if beyond & set(node.input):
            node.name = node.name or f"kept_fp32_{number}"
            blocked.append(node.name)
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.CRITICAL)
    converted: onnx.ModelProto = convert_float_to_float16(prepared, keep_io_types=True, node_block_list=blocked)
    _sort(converted.graph)
    strip(converted)
    return converted


def _sort(graph: onnx.GraphProto) -> None:
    """Put nodes behind those whose results they read, in place, else as they are: the converter appends its casts."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    waits = [{makers[name] for name in _read(node) if name in makers} for node in graph.node]
    readers: list[list[int]] = [[] for _ in waits]
    for number, waited in enumerate(waits):
        for maker in waited:
            readers[maker].append(number)
    ready = [number for number, waited in enumerate(waits) if not waited]
    ordered = []
    while ready:
        number = heapq.heappop(ready)
        ordered.append(graph.node[number])
        for reader in readers[number]:
            waits[reader].discard(number)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    replace(graph.node, ordered)


def _read(node: onnx.NodeProto) -> set[str]:
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {*node.input, *(name for graph in inner for each in graph.node for name in _read(each))}


def _layers(weights: dict[str, np.ndarray], result: onnx.ModelProto) -> list[dict[str, Any]]:
    halves = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in tensors_of(result.graph)
        if tensor.data_type == _FLOAT16 and tensor.name in weights
    }
    return [
        {
            "name": name,
            "elements": int(array.size),
            "precision": "fp16" if name in halves else "fp32",
            "relative_error": _relative_error(array, halves[name]) if name in halves else 0.0,
        }
        for name, array in weights.items()
    ]


def _relative_error(before: np.ndarray, after: np.ndarray) -> float:
    finite = np.isfinite(before)
    numbers = before[finite].astype(np.float64)
    return float(np.linalg.norm(after[finite] - numbers)) / (float(np.linalg.norm(numbers)) or 1.0)


def _compared(source: onnx.ModelProto, result: onnx.ModelProto, inputs: Tensors) -> float:
    before = answers(source, inputs)
    halves = {value.name for value in result.graph.input if value.type.tensor_type.elem_type == _FLOAT16}
    given = {name: array.astype(np.float16) if name in halves else array for name, array in inputs.items()}
    try:
        after = answers(result, given)
    except InvalidInput as error:
        raise inapplicable(f"in FP16 the model cannot be run: {error}; leave float16 out") from error
    return difference(before, after)


def _refuse_overflow(source: onnx.ModelProto, inputs: Tensors) -> None:
    inferred = onnx.shape_inference.infer_shapes(source).graph
    known = (*inferred.value_info, *inferred.output)
    floats = {value.name for value in known if value.type.tensor_type.elem_type == _FLOAT}
    if not all_finite(answers(source, inputs)) or all_finite(answers(_overflowing(source, floats), inputs)):
        return
    largest = _largest_results(source, floats, inputs)
    name, size = next((name, size) for name, size in largest.items() if size >= _INFINITE_FROM)
    raise inapplicable(
        f"in FP16 the model gives answers that are not finite numbers: {name!r} reaches {size:.3g}, and FP16 ends at "
        f"{LARGEST:.0f}; leave float16 out"
    )


def _overflowing(source: onnx.ModelProto, floats: set[str]) -> onnx.ModelProto:
    """Return the graph with x / (|x| < limit) behind every result x: itself, or divided by zero."""
    model, nodes = copy_of(source), []
    model.graph.initializer.append(numpy_helper.from_array(np.array(_INFINITE_FROM, np.float32), "fp16_limit"))
    for node in model.graph.node:
        nodes.append(node)
        for place, name in enumerate(node.output):
            if name not in floats:
                continue
            raw, size, fits, divisor = (f"{name}_fp16_{part}" for part in ("raw", "size", "fits", "divisor"))
            node.output[place] = raw
            nodes += [
                helper.make_node("Abs", [raw], [size]),
                helper.make_node("Less", [size, "fp16_limit"], [fits]),
                helper.make_node("Cast", [fits], [divisor], to=_FLOAT),
                helper.make_node("Div", [raw, divisor], [name]),
            ]
    replace(model.graph.node, nodes)
    return model


def _largest_results(source: onnx.ModelProto, floats: set[str], inputs: Tensors) -> dict[str, float]:
    """Return the largest size of every result, in the order of the graph."""
    model = copy_of(source)
    names = [name for node in source.graph.node for name in node.output if name in floats]
    for name in names:
        size, largest = f"{name}_fp16_size", f"{name}_fp16_largest"
        model.graph.node.append(helper.make_node("Abs", [name], [size]))
        model.graph.node.append(helper.make_node("ReduceMax", [size], [largest], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(largest, _FLOAT, None))
    found = answers(model, inputs)
    return {name: float(found[f"{name}_fp16_largest"]) for name in names}
