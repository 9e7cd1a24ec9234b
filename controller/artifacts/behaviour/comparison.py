"""A variant beside its source on the same samples: every figure that is signed, from both models' outputs."""

from typing import Any

import numpy as np

from controller.artifacts.behaviour.bootstrap import paired_intervals
from controller.artifacts.behaviour.calibration_error import calibration_of
from controller.artifacts.behaviour.metrics import cosines, decisions_of, measure
from controller.artifacts.behaviour.samples import Samples
from controller.artifacts.graph.sessions import Array, Tensors

CLASS_SAMPLES_MIN = 5
"""A class with fewer samples says nothing about how well it is known."""


def compare(metric: str, samples: Samples, source: Tensors, variant: Tensors) -> dict[str, Any]:
    """Return the figures by the names that they have in `findings.Evaluation`; InvalidInput as `measure` raises it."""
    measured = measure(metric, samples, source, variant)
    value, source_value = measured.values
    intervals = paired_intervals(measured.variant, measured.source, measured.value)
    found = cosines(source, variant, len(samples))
    similarity = None if found is None else float(found.mean())
    return {
        "metric": measured.metric,
        "value": value,
        "source_value": source_value,
        "samples": len(samples),
        "value_ci": intervals and intervals.value,
        "source_ci": intervals and intervals.source_value,
        "drop_ci": intervals and intervals.drop,
        "similarity": similarity if similarity is not None and np.isfinite(similarity) else None,
        **_of_decisions(samples, source, variant),
    }


def worst_class(labels: Array, of_source: Array, of_variant: Array) -> dict[str, Any] | None:
    """Return the class of which the variant finds the smallest share, with both models' shares and its samples.

    Arguments are classes, whole numbers [rows]. Among equals the one that lost most, then the lowest number; None
    when no class has CLASS_SAMPLES_MIN samples.
    """
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    found = [np.bincount(place, weights=of == labels, minlength=len(names)) / counts for of in (of_variant, of_source)]
    enough = np.flatnonzero(counts >= CLASS_SAMPLES_MIN)
    if not len(enough):
        return None
    worst = min(enough, key=lambda number: (found[0][number], -found[1][number], number))
    return {
        "class": int(names[worst]),
        "value": float(found[0][worst]),
        "source_value": float(found[1][worst]),
        "samples": int(counts[worst]),
    }


def _of_decisions(samples: Samples, source: Tensors, variant: Tensors) -> dict[str, Any]:
    of_source, of_variant = decisions_of(source, len(samples)), decisions_of(variant, len(samples))
    figures: dict[str, Any] = {"agreement": None, "worst_class": None, "calibration": None}
    # A single number may be a probability or a regression's answer: only classes as labels tell that it decides.
    if of_source is None or of_variant is None or samples.numbers is not None:
        return figures
    figures["agreement"] = float((of_variant.labels == of_source.labels).mean())
    if samples.classes is not None:
        figures["worst_class"] = worst_class(samples.classes, of_source.labels, of_variant.labels)
        figures["calibration"] = calibration_of(source, variant, samples.classes)
    return figures
