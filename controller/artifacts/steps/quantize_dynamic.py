"""Quantize weights to 8-bit whole numbers; activations are quantized as they come, so no calibration is needed."""

import logging
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from controller.artifacts.graph.facts import describe
from controller.domain.errors import InvalidInput


def run(model_path: Path, out_path: Path, calibration: Path | None, *, per_channel: bool) -> dict[str, Any]:
    """Quantize the weights of MatMul, Gemm, Conv and the like; `per_channel` gives every output its own scale.

    Weights keep 7 of the 8 bits: on x86 processors without VNNI the products of two 8-bit numbers saturate, and
    one model would answer differently from processor to processor (onnxruntime, "Quantize ONNX models", section on
    when to use reduce-range).
    """
    del calibration
    logging.getLogger().setLevel(logging.ERROR)
    quantize_dynamic(model_path, out_path, per_channel=per_channel, reduce_range=True, weight_type=QuantType.QInt8)
    before, after = onnx.load(model_path), onnx.load(out_path)
    if describe(after).precision == describe(before).precision:
        raise InvalidInput(
            "int8 quantizes the weights of MatMul, Gemm, Conv, Attention, LSTM and Gather, and this model keeps next "
            f"to none there (its operators: {', '.join(describe(before).operators)}); leave int8 out",
            code="recipe_inapplicable",
            field="/recipes",
        )
    return {"weights": "int8", "per_channel": per_channel, "bytes": out_path.stat().st_size}
