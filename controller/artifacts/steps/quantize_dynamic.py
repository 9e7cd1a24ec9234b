"""Quantize weights to 8-bit whole numbers; activations are quantized as they come, so no calibration is needed."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization import quantize_dynamic as quantize

from controller.artifacts.graph.exclusions import layers_of, name_nodes, trial_of
from controller.artifacts.graph.quantized import Quantization, refuse_fused, refuse_quantized, written_by
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell
from controller.artifacts.steps.parameters import QuantizeDynamic

CALLED = "int8"
OPERATORS = ("MatMul", "Gemm", "Conv", "LSTM", "Gather")
BITS = 8


def apply(model: onnx.ModelProto, parameters: QuantizeDynamic, calibration: Calibration | None, tell: Tell) -> Applied:
    """Quantize the weights of MatMul, Gemm, Conv and the like; `per_channel` gives every output its own scale.

    By default weights keep 7 of the 8 bits (`reduce_range`): on x86 processors without VNNI the products of two 8-bit
    numbers saturate, and one model would answer differently from processor to processor (onnxruntime, "Quantize ONNX
    models", section on when to use reduce-range).

    InvalidInput: `recipe_inapplicable` for graphs that are quantized or fused already or keep next to no weights in
    such operators, `recipe_parameters` for unknown nodes in `exclude`, `calibration_missing` for measured exclusions.
    """
    refuse_quantized(model, CALLED)
    refuse_fused(model, CALLED)
    source = copy_of(model)
    name_nodes(source)

    def quantized(left_alone: frozenset[str]) -> onnx.ModelProto:
        return written_by(lambda path: _write(source, path, parameters, left_alone))

    subject = Quantization(CALLED, BITS, model, source, source, layers_of(source, OPERATORS), OPERATORS, quantized)
    trial = trial_of(model, calibration, parameters.exclude, "quantize_dynamic")
    applied = subject.run(parameters.exclude, trial, tell)
    told = {"per_channel": parameters.per_channel, "reduce_range": parameters.reduce_range}
    return replace(applied, facts={**applied.facts, **told})


def _write(source: onnx.ModelProto, path: Path, parameters: QuantizeDynamic, left_alone: Iterable[str]) -> None:
    # The quantizer turns every Gemm into a MatMul of a longer name before it looks at the names to exclude.
    quantize(
        copy_of(source),
        path,
        per_channel=parameters.per_channel,
        reduce_range=parameters.reduce_range,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[name for left in sorted(left_alone) for name in (left, f"{left}_MatMul")],
    )
