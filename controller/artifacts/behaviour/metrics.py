"""Metrics: what a variant and its source score on the same samples. Higher is better everywhere.

accuracy      share of rows that are decided as labelled
r2            coefficient of determination of the first output with fractions, the mean over its numbers:
1 - sum (label - output)^2 / sum (label - mean label)^2
cosine        mean cosine between variant's and source's first output with fractions; needs no labels
plugin:NAME   mean of the scores of an operator's own metric (`controller.artifacts.metric_plugins`)
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.artifacts.behaviour.arrays import EVALUATION
from controller.artifacts.behaviour.decisions import Decisions, decide
from controller.artifacts.behaviour.samples import Samples, refuse_labels_beyond
from controller.artifacts.graph.sessions import Array, Tensors
from controller.artifacts.metric_plugins import check_metric, failed, row_scores
from controller.domain.promise import ACCURACY, AUTO, COSINE, PLUGIN_PREFIX, R2

_SPREAD_MIN = 1e-9
"""Of normalised labels: a resample with less spread than this has one value many times, and no R2."""


@dataclass(frozen=True)
class Measured:
    """A metric on samples, before rows are summed up: it is a function of means over rows."""

    metric: str
    variant: Array
    """What the variant's value is made of, float64 [rows, columns]."""
    source: Array
    value: Callable[[Array], Array]
    """Means of the columns [..., columns] to the metric's value [...]; not finite where it has none."""

    @property
    def values(self) -> tuple[float, float]:
        """The variant's and the source's value; InvalidInput(`metric_failed`) when one is not a finite number."""
        with np.errstate(over="ignore", invalid="ignore"):
            pair = float(self.value(self.variant.mean(axis=0))), float(self.value(self.source.mean(axis=0)))
        if not np.isfinite(pair).all():
            told = "one of the labels is the same in every row" if self.metric == R2 else "outputs are not finite"
            raise failed(self.metric, f"it is not a finite number for these samples: {told}")
        return pair


def measure(metric: str, samples: Samples, source: Tensors, variant: Tensors) -> Measured:
    """Return a metric of both models' outputs for all samples; `auto` is resolved by the kind of labels.

    InvalidInput: `metric_unknown`; `metric_failed` for a metric that these labels do not have; `evaluation_output`,
    `evaluation_shape` and `evaluation_labels` for outputs and labels that do not go together.
    """
    check_metric(metric)
    resolved = _fitting(samples) if metric == AUTO else metric
    if resolved.startswith(PLUGIN_PREFIX):
        of_variant, of_source = (
            row_scores(resolved, outputs, samples.labels, samples.inputs, len(samples)) for outputs in (variant, source)
        )
        return _mean_of(resolved, of_variant, of_source)
    return _BUILT_IN[resolved](samples, source, variant)


def decisions_of(outputs: Tensors, rows: int) -> Decisions | None:
    """Return the class of each of the rows; None for outputs that do not name one for each."""
    decisions = decide(outputs)
    return decisions if decisions is not None and len(decisions.labels) == rows else None


def cosines(source: Tensors, variant: Tensors, rows: int) -> Array | None:
    """Return the cosine between both models' first output with fractions, float64 [rows].

    None where there is none with so many rows and as many numbers in each. Two rows of zeros are alike: 1.
    """
    first, second = _first_fractions(source, rows), _first_fractions(variant, rows)
    if first is None or second is None or first.shape != second.shape:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        products = (first * second).sum(axis=1)
        both_zero = ~(first.any(axis=1) | second.any(axis=1))
        return np.asarray(np.where(both_zero, 1.0, products / np.where(lengths == 0, 1.0, lengths)))


def _fitting(samples: Samples) -> str:
    if samples.labels is None:
        return COSINE
    return R2 if samples.classes is None else ACCURACY


def _accuracy(samples: Samples, source: Tensors, variant: Tensors) -> Measured:
    if samples.classes is None:
        raise failed(ACCURACY, "it needs 'labels' of whole numbers, one class a sample")
    right = []
    for outputs in (variant, source):
        decisions = decisions_of(outputs, len(samples))
        if decisions is None:
            raise EVALUATION.refused(
                "output",
                f"none of the model's outputs ({', '.join(outputs)}) names one class for each row; save 'labels' of a "
                "regression as floats, or upload the version without evaluation data",
            )
        refuse_labels_beyond(samples, decisions.classes)
        right.append(decisions.labels == samples.classes)
    return _mean_of(ACCURACY, right[0], right[1])


def _r2(samples: Samples, source: Tensors, variant: Tensors) -> Measured:
    if samples.labels is None:
        raise failed(R2, "it needs 'labels', the number or numbers that each row should give")
    labels = samples.labels.astype(np.float64).reshape(len(samples), -1)
    spread = labels.std(axis=0)
    unit = np.where(spread > 0, spread, 1.0)
    wanted = (labels - labels.mean(axis=0)) / unit
    columns = []
    for outputs in (variant, source):
        got = _first_fractions(outputs, len(samples))
        if got is None or got.shape != labels.shape:
            gives = "none" if got is None else f"{got.shape[1]}"
            raise EVALUATION.refused(
                "shape",
                f"'labels' has {labels.shape[1]} numbers with fractions a row; of the outputs ({', '.join(outputs)}) "
                f"the first with fractions gives {gives}; classes are labelled with whole numbers",
            )
        residuals = (got - labels) / unit
        columns.append(np.concatenate([residuals**2, wanted, wanted**2], axis=1))
    return Measured(R2, columns[0], columns[1], _r2_of_means)


def _r2_of_means(means: Array) -> Array:
    residual, mean, square = np.split(means, 3, axis=-1)
    spread = square - mean**2
    explained = 1 - residual / np.where(spread > _SPREAD_MIN, spread, np.nan)
    return np.asarray(explained.mean(axis=-1))


def _cosine(samples: Samples, source: Tensors, variant: Tensors) -> Measured:
    found = cosines(source, variant, len(samples))
    if found is None:
        raise EVALUATION.refused(
            "output",
            f"none of the outputs ({', '.join(source)}) gives numbers with fractions, a row for each sample and alike "
            "in both models, to compare by; add 'labels', or upload the version without evaluation data",
        )
    return _mean_of(COSINE, found, np.ones(len(samples)))


def _mean_of(metric: str, variant: Array, source: Array) -> Measured:
    as_columns = [scores.astype(np.float64).reshape(-1, 1) for scores in (variant, source)]
    return Measured(metric, as_columns[0], as_columns[1], lambda means: means[..., 0])


def _first_fractions(outputs: Tensors, rows: int) -> Array | None:
    first = next((array for array in outputs.values() if array.dtype.kind == "f"), None)
    if first is None or len(first) != rows:
        return None
    return first.reshape(rows, -1).astype(np.float64)


_BUILT_IN: dict[str, Callable[[Samples, Tensors, Tensors], Measured]] = {
    ACCURACY: _accuracy,
    R2: _r2,
    COSINE: _cosine,
}
