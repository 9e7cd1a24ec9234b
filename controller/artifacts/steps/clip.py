"""Saturate weights at a bound, so that few large ones do not coarsen the grid on which all others are quantized.

Whether that pays depends on the weights and the bits. It is measured on a symmetric grid, one for each tensor or
channel that gets a bound, before and after; the facts say so, and the step does what it was told either way.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from controller.artifacts.graph.bounds import Doubles, by_least_error, by_percentile, by_sigma, grid_error
from controller.artifacts.graph.clipping import clip_points, insert_clips
from controller.artifacts.graph.probing import answers, probe
from controller.artifacts.graph.running import activations, damage
from controller.artifacts.graph.stripping import freeze
from controller.artifacts.graph.weights import Floats, Weight, copy_of, weights_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable, needed
from controller.artifacts.steps.parameters import Clip
from controller.domain.errors import InvalidInput

PAYS_FROM = 0.01
"""The grid's squared error must shrink by this share before clipping is called worth it."""
COMPARED_ROWS = 256


def apply(model: onnx.ModelProto, parameters: Clip, calibration: Calibration | None, tell: Tell) -> Applied:
    """Saturate the weights of MatMul, Gemm and Conv; with `activations`, insert Clip nodes behind them as well.

    Facts: `pays` with `words`; for each layer its `bound` (the largest, where channels have their own), the share
    of weights `clipped`, and the relative error of the quantized weights `error_before` and `error_after`; for each
    Clip node the same of what it saturates; and with calibration data the `damage` to the outputs.
    InvalidInput(`recipe_parameters`) for a value that does not go with the bound.
    """
    _refuse_nonsense(parameters)
    changed = copy_of(model)
    freeze(changed)
    weights = weights_of(changed)
    if not weights:
        raise inapplicable(
            "clip saturates the FP32 weights of MatMul, Gemm and Conv, and this model has none; leave clip out, or "
            "put it before steps that quantize"
        )
    layers = []
    for number, weight in enumerate(weights):
        layers.append(_clip_weight(weight, parameters))
        told = f"{weight.name}: bound {layers[-1]['bound']:.4g}, {layers[-1]['clipped']:.2%} clipped"
        tell(0.6 * (number + 1) / len(weights), told)
    facts: dict[str, Any] = _verdict(layers, parameters) | {"layers": layers}
    if parameters.activations:
        facts["activations"] = _clip_activations(model, changed, parameters, needed(calibration, "clip"))
    if calibration is not None and len(calibration):
        inputs = probe(model, calibration, COMPARED_ROWS)
        strayed = damage(answers(model, inputs), answers(changed, inputs))
        facts["damage"] = {"disagreement": strayed.disagreement, "relative_error": strayed.relative_error}
    tell(1.0, facts["words"])
    return Applied(changed, facts)


def _refuse_nonsense(parameters: Clip) -> None:
    value, wrong = parameters.value, None
    if parameters.bound == "least_error":
        if value is not None:
            wrong = f"bound 'least_error' finds its own bound and takes no value, and {value} was given; leave it out"
    elif value is None:
        example = "99.9" if parameters.bound == "percentile" else "4"
        wrong = f"bound {parameters.bound!r} needs a value, and none was given; give one, for example {example}"
    elif parameters.bound == "percentile" and not 50 <= value < 100:
        wrong = f"the percentile {value} is not from 50 to below 100, where 100 clips nothing; give for example 99.9"
    elif parameters.bound == "sigma" and not (math.isfinite(value) and value > 0):
        wrong = f"{value} standard deviations are no bound; give a number above 0, for example 4"
    if wrong:
        raise InvalidInput(f"clip: {wrong}", code="recipe_parameters", field="/recipes")


def _bounds(rows: npt.NDArray[np.floating], parameters: Clip, *, signed: bool = True) -> Doubles:
    if parameters.bound == "percentile":
        return by_percentile(rows, parameters.value or 0.0)
    if parameters.bound == "sigma":
        return by_sigma(rows, parameters.value or 0.0)
    return by_least_error(rows, parameters.bits, signed=signed)


def _clip_weight(weight: Weight, parameters: Clip) -> dict[str, Any]:
    values = weight.values
    rows = weight.by_channel() if parameters.per == "channel" else values.reshape(1, -1)
    bounds = _bounds(rows, parameters).astype(np.float32)
    shape = [1] * values.ndim
    if parameters.per == "channel":
        shape[weight.axis] = len(bounds)
    by_axis = bounds.reshape(shape)
    weight.set_values(np.clip(values, -by_axis, by_axis))
    return {"name": weight.name, "elements": values.size} | _figures(rows, bounds, parameters.bits)


def _figures(rows: Floats, bounds: npt.NDArray[np.floating], bits: int, *, signed: bool = True) -> dict[str, Any]:
    size = math.sqrt(float(np.square(rows, dtype=np.float64).sum())) or 1.0
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    before = float(grid_error(rows, largest, bits, signed=signed).sum())
    after = float(grid_error(rows, bounds.astype(np.float64), bits, signed=signed).sum())
    return {
        "bound": float(bounds.max()),
        "clipped": float((np.abs(rows) > bounds[:, None]).mean()),
        "error_before": math.sqrt(before) / size,
        "error_after": math.sqrt(after) / size,
    }


def _verdict(layers: list[dict[str, Any]], parameters: Clip) -> dict[str, Any]:
    # Errors relative to each layer's own norm, or layers of large numbers alone would decide; larger layers count more.
    before, after = (
        sum(layer[key] ** 2 * layer["elements"] for layer in layers) for key in ("error_before", "error_after")
    )
    pays = after < before * (1 - PAYS_FROM)
    grid = f"symmetric, {parameters.bits} bits, one scale for each {parameters.per}"
    change = after / before - 1 if before else 0.0
    advice = "clipping pays" if pays else "clipping does not pay, leave it out"
    words = f"the squared error of the weights on a grid ({grid}) changes by {change:+.1%}: {advice}"
    return {"pays": pays, "words": words}


def _clip_activations(
    source: onnx.ModelProto, changed: onnx.ModelProto, parameters: Clip, calibration: Calibration
) -> list[dict[str, Any]]:
    points = clip_points(changed)
    if not points:
        raise inapplicable(
            "clip finds no place for a Clip node: every layer's result is an output of the model; set activations to "
            "false"
        )
    seen = activations(source, [point.tensor for point in points], calibration)
    facts, bounds = [], {}
    for point in points:
        rows = seen[point.tensor].reshape(1, -1)
        found = _bounds(rows, parameters, signed=point.signed).astype(np.float32)
        figures = _figures(rows, found, parameters.bits, signed=point.signed)
        bounds[point.tensor] = float(found[0])
        facts.append({"name": point.tensor, "lower": -bounds[point.tensor] if point.signed else 0.0} | figures)
    insert_clips(changed, points, bounds)
    return facts
