"""Set the smallest weights to zero: fewer bytes on the wire, the same time and memory on the device.

Exactly `sparsity` of all weights of MatMul, Gemm and Conv become zero (to the nearest whole number), shared out by
`allocation`:

    layer         the same share of every layer, by |w|
    model         one threshold for all, by |w| over the root mean square of its layer
    sensitivity   more where it harms less: each layer is pruned alone to some levels, and what that harms on the
                  calibration rows decides (graph/sensitivity.py)
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from controller.artifacts.graph.layouts import node_label
from controller.artifacts.graph.sensitivity import Gauge, share_out
from controller.artifacts.graph.weights import Floats, Weight, copy_of, weights_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable, needed
from controller.artifacts.steps.parameters import PruneMagnitude

LEVELS = (0.3, 0.5, 0.7, 0.85, 0.95)
"""At which each layer's sensitivity is measured; above the last, also halfway to 1."""
_SEARCH_SHARE = 0.8


def apply(model: onnx.ModelProto, parameters: PruneMagnitude, calibration: Calibration | None, tell: Tell) -> Applied:
    """Prune; InvalidInput(`recipe_inapplicable`) where there are no weights, or as many zeros already."""
    pruned = copy_of(model)
    weights = weights_of(pruned)
    if not weights:
        raise inapplicable(
            "prune_magnitude works on MatMul, Gemm and Conv with constant FP32 weights of their own, and the model "
            "has none; prune before quantizing, or leave prune_magnitude out"
        )
    if parameters.allocation == "sensitivity":
        calibration = needed(calibration, "prune_magnitude")
    gauge = Gauge(model, calibration) if calibration else None
    chosen = _choose(model, weights, parameters, gauge, tell)
    zeros_before = _zeros(weights)
    for weight in weights:
        weight.set_values(np.where(chosen[weight.name], np.float32(0), weight.values))
    if _zeros(weights) == zeros_before:
        raise inapplicable(
            f"{zeros_before} of the weights are zero already, as many as a sparsity of {parameters.sparsity:g} asks "
            "for; raise `sparsity`, or leave prune_magnitude out"
        )
    harm = gauge.damage_of(pruned) if gauge else None
    figures = {"disagreement": harm.disagreement, "relative_error": round(harm.relative_error, 6)} if harm else None
    tell(1.0, f"{_zeros(weights)} weights are zero")
    return Applied(pruned, {**_facts(weights, parameters), "damage": figures})


def smallest(scores: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.bool_]:
    """Return where the `count` smallest scores [n] are; among equal ones the first."""
    if count <= 0:
        return np.zeros(len(scores), bool)
    threshold = np.partition(scores, count - 1)[count - 1]
    found: npt.NDArray[np.bool_] = scores < threshold
    found[np.flatnonzero(scores == threshold)[: count - int(found.sum())]] = True
    return found


def _choose(
    model: onnx.ModelProto, weights: list[Weight], parameters: PruneMagnitude, gauge: Gauge | None, tell: Tell
) -> dict[str, npt.NDArray[np.bool_]]:
    if parameters.allocation == "model":
        return _below_one_threshold(weights, parameters.sparsity)
    shares = {weight.name: parameters.sparsity for weight in weights}
    if gauge is not None and parameters.allocation == "sensitivity":
        shares = _by_sensitivity(model, weights, parameters.sparsity, gauge, tell)
    counts = _whole(shares, {weight.name: weight.values.size for weight in weights})
    return {weight.name: _smallest_of(weight.values, counts[weight.name]) for weight in weights}


def _smallest_of(values: Floats, count: int) -> npt.NDArray[np.bool_]:
    return smallest(np.abs(values).reshape(-1), count).reshape(values.shape)


def _below_one_threshold(weights: list[Weight], sparsity: float) -> dict[str, npt.NDArray[np.bool_]]:
    scores = [np.abs(weight.values).reshape(-1) / _scale(weight.values) for weight in weights]
    found = smallest(np.concatenate(scores), round(sparsity * sum(map(len, scores))))
    parts = np.split(found, np.cumsum([len(part) for part in scores])[:-1])
    return {weight.name: part.reshape(weight.values.shape) for weight, part in zip(weights, parts, strict=True)}


def _scale(values: Floats) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2))) or 1.0


def _by_sensitivity(
    model: onnx.ModelProto, weights: list[Weight], sparsity: float, gauge: Gauge, tell: Tell
) -> dict[str, float]:
    levels = LEVELS if sparsity < LEVELS[-1] else (*LEVELS, (1 + sparsity) / 2)
    harm: dict[str, list[float]] = {}
    for place, weight in enumerate(weights):
        harm[weight.name] = [gauge.damage_of(_alone(model, place, level)).worst for level in levels]
        words = f"{node_label(weight.node)}: alone at {levels[-1]:.0%} zeros, damage {harm[weight.name][-1]:.4f}"
        tell(_SEARCH_SHARE * (place + 1) / len(weights), words)
    return share_out({weight.name: weight.values.size for weight in weights}, levels, harm, sparsity)


def _alone(model: onnx.ModelProto, place: int, share: float) -> onnx.ModelProto:
    pruned = copy_of(model)
    weight = weights_of(pruned)[place]
    values = weight.values
    weight.set_values(np.where(_smallest_of(values, round(share * values.size)), np.float32(0), values))
    return pruned


def _whole(shares: dict[str, float], sizes: dict[str, int]) -> dict[str, int]:
    # Rounds the running total, so that all layers together come out right and each by less than one weight.
    totals = np.cumsum([shares[name] * sizes[name] for name in sizes]).round(6)
    whole = np.diff(np.floor(totals + 0.5).astype(np.int64), prepend=0)
    return {name: min(sizes[name], int(count)) for name, count in zip(sizes, whole, strict=True)}


def _zeros(weights: list[Weight]) -> int:
    return sum(int((weight.values == 0).sum()) for weight in weights)


def _facts(weights: list[Weight], parameters: PruneMagnitude) -> dict[str, Any]:
    layers = [
        {
            "name": node_label(weight.node),
            "weights": int(weight.values.size),
            "sparsity": round(float((weight.values == 0).mean()), 6),
        }
        for weight in weights
    ]
    total = sum(weight.values.size for weight in weights)
    overall = round(_zeros(weights) / total, 6)
    return {"allocation": parameters.allocation, "sparsity": overall, "weights": total, "layers": layers}
