"""Share few values among all weights of a layer: an index for each weight, and a table that the graph looks up in.

The table comes from one-dimensional k-means (Han, Mao and Dally, "Deep Compression", 2016). The file shrinks; the
runtime looks every weight up while it loads, so memory and time are those of FP32.

Indices take a byte. Up to 16 entries fit half a byte, which ONNX has from opset 21 on: the graph is raised to it if
onnxruntime then answers exactly as with whole bytes, with its graph optimisation and without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from controller.artifacts.graph.clustering import cluster, nearest
from controller.artifacts.graph.probing import answers, probe
from controller.artifacts.graph.stripping import freeze, replace
from controller.artifacts.graph.weights import Weight, copy_of, weights_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable
from controller.artifacts.steps.parameters import Palette
from controller.domain.errors import InvalidInput

ELEMENTS_MIN = 1024
"""Smaller layers are left alone: next to the table, and two more nodes, little would be saved."""
HALF_BYTE_ENTRIES = 16
HALF_BYTE_OPSET = 21
HALF_BYTE_IR_VERSION = 10


@dataclass(frozen=True)
class _Palette:
    name: str
    index: npt.NDArray[np.uint8]
    table: npt.NDArray[np.float32]
    error: float


def apply(model: onnx.ModelProto, parameters: Palette, calibration: Calibration | None, tell: Tell) -> Applied:
    """Replace the weights of MatMul, Gemm and Conv; refuses a model that has none of at least 1,024 elements.

    Where more than one weight in `entries` is exactly zero, as after pruning, zero keeps an entry of its own.
    Facts: `index_bits`, `index` (why), and for each layer `entries`, `elements` and `relative_error`, which is the
    norm of the change over the norm of the weights.
    """
    source = copy_of(model)
    freeze(source)
    weights = weights_of(source, elements_min=ELEMENTS_MIN)
    if not weights:
        raise inapplicable(
            f"palette shares values among the FP32 weights of MatMul, Gemm and Conv in layers of {ELEMENTS_MIN} or "
            "more, and this model has no such layer; leave palette out, or put it before steps that quantize"
        )
    palettes = []
    for number, weight in enumerate(weights):
        palettes.append(_palette(weight, parameters.entries))
        told = f"{weight.name}: {len(palettes[-1].table)} values, relative error {palettes[-1].error:.4f}"
        tell(0.8 * (number + 1) / len(weights), told)
    whole = _with_lookups(source, palettes, TensorProto.UINT8)
    result, why = _halved(source, palettes, whole, calibration)
    bits = 8 if result is whole else 4
    tell(1.0, f"indices take {bits} bits: {why}")
    return Applied(result, {"index_bits": bits, "index": why, "layers": [_facts(palette) for palette in palettes]})


def _palette(weight: Weight, entries: int) -> _Palette:
    values = weight.values
    zeros = values == 0
    if zeros.mean() > 1 / entries and not zeros.all():
        centres = np.union1d(cluster(values[~zeros], entries - 1), [0.0])
    else:
        centres = cluster(values, entries)
    index = nearest(values, centres).astype(np.uint8)
    table = centres.astype(np.float32)
    norm = float(np.linalg.norm(values)) or 1.0
    return _Palette(weight.name, index, table, float(np.linalg.norm(table[index] - values)) / norm)


def _facts(palette: _Palette) -> dict[str, Any]:
    return {
        "name": palette.name,
        "entries": len(palette.table),
        "elements": palette.index.size,
        "relative_error": palette.error,
    }


def _halved(
    source: onnx.ModelProto, palettes: Sequence[_Palette], whole: onnx.ModelProto, calibration: Calibration | None
) -> tuple[onnx.ModelProto, str]:
    """Return the graph with indices of half a byte and why, or the one with whole bytes and why not."""
    longest = max(len(palette.table) for palette in palettes)
    if longest > HALF_BYTE_ENTRIES:
        return whole, f"{longest} entries do not fit half a byte"
    try:
        raised = _raised(source)
        half = _with_lookups(raised, palettes, TensorProto.UINT4)
        onnx.checker.check_model(half)
        inputs = probe(source, calibration)
        same = all(_same(whole, half, inputs, optimised=optimised) for optimised in (False, True))
    # The converter raises one or the other for what it cannot bring to a later opset.
    except (RuntimeError, version_converter.ConvertError, onnx.checker.ValidationError, InvalidInput) as error:
        return whole, f"with half bytes the graph cannot be used ({str(error).strip().splitlines()[0][:200]})"
    if not same:
        return whole, "with half bytes the runtime answers otherwise"
    return half, f"{longest} entries fit half a byte, which opset {HALF_BYTE_OPSET} has"


def _same(
    whole: onnx.ModelProto, half: onnx.ModelProto, inputs: dict[str, npt.NDArray[Any]], *, optimised: bool
) -> bool:
    expected, got = answers(whole, inputs, optimised=optimised), answers(half, inputs, optimised=optimised)
    return all(np.array_equal(array, got[name], equal_nan=array.dtype.kind == "f") for name, array in expected.items())


def _raised(source: onnx.ModelProto) -> onnx.ModelProto:
    opset = next((entry.version for entry in source.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset >= HALF_BYTE_OPSET:
        return source
    raised = version_converter.convert_version(source, HALF_BYTE_OPSET)
    raised.ir_version = max(raised.ir_version, HALF_BYTE_IR_VERSION)
    return raised


def _with_lookups(source: onnx.ModelProto, palettes: Sequence[_Palette], index_type: int) -> onnx.ModelProto:
    """Return the graph with each weight's initializer replaced by two, and by nodes that give it under its old name."""
    model = copy_of(source)
    by_name = {palette.name: palette for palette in palettes}
    replace(model.graph.initializer, [tensor for tensor in model.graph.initializer if tensor.name not in by_name])
    lookups = []
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    for palette in palettes:
        index, table, whole = (_free(f"{palette.name}_{part}", taken) for part in ("index", "table", "index_whole"))
        dtype = helper.tensor_dtype_to_np_dtype(index_type)
        model.graph.initializer.append(numpy_helper.from_array(palette.index.astype(dtype), index))
        model.graph.initializer.append(numpy_helper.from_array(palette.table, table))
        lookups += [
            helper.make_node("Cast", [index], [whole], name=whole, to=TensorProto.INT32),
            helper.make_node("Gather", [table, whole], [palette.name], name=f"{palette.name}_lookup", axis=0),
        ]
    replace(model.graph.node, [*lookups, *model.graph.node])
    return model


def _free(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted
