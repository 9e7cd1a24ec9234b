"""Quantize weights and activations to 8-bit whole numbers, with scales from calibration (QDQ)."""

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantFormat, QuantType
from onnxruntime.quantization import quantize_static as quantize
from onnxruntime.quantization.calibrate import CalibrationMethod
from onnxruntime.quantization.shape_inference import quant_pre_process

from controller.artifacts.graph.exclusions import Trial, layers_of, name_nodes
from controller.artifacts.graph.quantized import Quantization, refuse_fused, refuse_quantized, written_by
from controller.artifacts.graph.running import rows_at_once
from controller.artifacts.graph.sessions import Tensors
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, needed
from controller.artifacts.steps.parameters import QuantizeStatic

CALLED = "int8"
BITS = 8
LAYERS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Gather")
AROUND = (
    *("Add", "Relu", "Clip", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Split"),
    *("Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad", "Resize"),
)
"""What passes whole numbers on between layers. Normalisations, softmax and other curves stay floats: their results
span magnitudes that 256 steps do not tell apart."""
ROWS_MAX = {"minmax": 256, "entropy": 128, "percentile": 128}
"""Calibration rows. The last two keep a histogram of every tensor, and search it."""
ROWS_A_BATCH = 32
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


def apply(model: onnx.ModelProto, parameters: QuantizeStatic, calibration: Calibration | None, tell: Tell) -> Applied:
    """Quantize convolutions and matrices to symmetric INT8, what flows between them to UINT8.

    By default weights keep 7 of the 8 bits (`reduce_range`): x86 processors without VNNI add pairs of products of an
    unsigned and a signed 8-bit number in 16 bits, which saturate, and one model would answer differently from
    processor to processor. With 7 bits no sum reaches the limit (2 * 255 * 64 < 2**15).

    InvalidInput: `calibration_missing` without calibration data, `recipe_inapplicable` for graphs that are quantized
    or fused already or keep next to no weights in such operators, `recipe_parameters` for unknown nodes in `exclude`.
    """
    given = needed(calibration, "quantize_static")
    refuse_quantized(model, CALLED)
    refuse_fused(model, CALLED)
    source = copy_of(model)
    name_nodes(source)
    trial = Trial(model, given)
    tell(0.0, "folding batch normalisation and inferring shapes")
    prepared = _prepared(source)
    name_nodes(prepared)
    rows = given.head(ROWS_MAX[parameters.method])

    with tempfile.TemporaryDirectory() as directory:
        # Ranges do not depend on what is left alone: the first run writes them down for the others.
        ranges = Path(directory) / "ranges.json"

        def quantized(left_alone: frozenset[str]) -> onnx.ModelProto:
            return written_by(lambda path: _write(prepared, path, parameters, rows, ranges, left_alone))

        subject = Quantization(CALLED, BITS, model, source, prepared, layers_of(prepared, LAYERS), LAYERS, quantized)
        applied = subject.run(parameters.exclude, trial, tell)
    told = {
        "activations": "uint8",
        "per_channel": parameters.per_channel,
        "reduce_range": parameters.reduce_range,
        "method": parameters.method,
        "rows_calibrated": len(rows),
    }
    return replace(applied, facts={**applied.facts, **told})


class Batches:
    """Calibration rows as onnxruntime takes them: some at a time, and again from any batch."""

    def __init__(self, calibration: Calibration, rows: int) -> None:
        self._batches = [
            {name: array[start : start + rows] for name, array in calibration.inputs.items()}
            for start in range(0, len(calibration), rows)
        ]
        self.set_range(0, len(self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these batches."""
        self._coming = iter(self._batches[start_index:end_index])

    def get_next(self) -> Tensors | None:
        """Return the next batch, arrays by input name; None after the last."""
        return next(self._coming, None)


def _prepared(source: onnx.ModelProto) -> onnx.ModelProto:
    # Symbolic shape inference knows more, stumbles over some exported transformers, and takes seconds to load.
    return written_by(lambda path: quant_pre_process(copy_of(source), path, skip_symbolic_shape=True))


def _write(
    prepared: onnx.ModelProto,
    path: Path,
    parameters: QuantizeStatic,
    rows: Calibration,
    ranges: Path,
    left_alone: Iterable[str],
) -> None:
    # One batch after another, or histograms would be made of all tensors of all batches at once.
    quantize(
        copy_of(prepared),
        path,
        Batches(rows, rows_at_once(prepared) or ROWS_A_BATCH),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*LAYERS, *AROUND],
        per_channel=parameters.per_channel,
        reduce_range=parameters.reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=sorted(left_alone),
        calibrate_method=_METHODS[parameters.method],
        calibration_cache_path=ranges,
        extra_options={"CalibStridedMinMax": 1, "WeightSymmetric": True},
    )
