"""Metrics of the operator's own: Python entry points in the group `edgefleet.metrics`, named `plugin:NAME`.

Such a metric is a callable

    metric(outputs: dict[str, ndarray], labels: ndarray | None, inputs: dict[str, ndarray]) -> ndarray

that scores every row, float64 [rows], higher is better; the mean is the metric's value. It is called once with the
source's outputs and once with the variant's. Names are looked up anywhere; the code is loaded and called in
confined children alone.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import numpy as np
import numpy.typing as npt

from controller.domain.errors import InvalidInput
from controller.domain.promise import AUTO, METRIC_FIELD, METRICS, PLUGIN_PREFIX

GROUP = "edgefleet.metrics"
NO_DATA = "the version has no evaluation data; upload it with some, or promise nothing by name"
Array = npt.NDArray[Any]
Metric = Callable[[dict[str, Array], Array | None, dict[str, Array]], Array]
"""Outputs, labels and inputs of all rows to a score for each row."""


def check_metric(metric: str) -> None:
    """Raise InvalidInput(`metric_unknown`) with the known ones when nothing has this name; loads nothing."""
    if metric.startswith(PLUGIN_PREFIX):
        _entry_point(metric)
    elif metric not in (AUTO, *METRICS):
        raise _unknown(metric)


def metric_release(metric: str) -> str | None:
    """Return the release of the package that offers an operator's metric: another one may score otherwise."""
    if not metric.startswith(PLUGIN_PREFIX):
        return None
    offered = _entry_point(metric).dist
    return offered.version if offered else None


def row_scores(
    metric: str, outputs: dict[str, Array], labels: Array | None, inputs: dict[str, Array], rows: int
) -> Array:
    """Load the operator's metric, call it, and return its score of each row: float64 [rows].

    It sees arrays that cannot be written to. InvalidInput: `metric_unknown`, or `metric_failed` when it cannot be
    loaded, raises, or gives anything but one finite number for each row.
    """
    entry = _entry_point(metric)
    arguments = (_readable(outputs), None if labels is None else _locked(labels), _readable(inputs))
    try:
        called: Metric = entry.load()
        scores = np.asarray(called(*arguments))
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise failed(metric, f"{entry.value} ends with {type(error).__name__}: {error}") from error
    if scores.shape != (rows,) or scores.dtype.kind not in "biuf":
        told = f"{entry.value} gives {scores.dtype} of shape {list(scores.shape)}; expected one number for each row"
        raise failed(metric, f"{told}, float64 of shape [{rows}]")
    scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        raise failed(metric, f"{entry.value} scores {int((~np.isfinite(scores)).sum())} of {rows} rows not finite")
    return scores


def failed(metric: str, detail: str) -> InvalidInput:
    """Return the refusal of a metric that these models and data do not have."""
    return InvalidInput(f"the metric {metric!r} cannot be measured: {detail}", code="metric_failed", field=METRIC_FIELD)


def _entry_point(metric: str) -> EntryPoint:
    found = {entry.value: entry for entry in entry_points(group=GROUP, name=metric.removeprefix(PLUGIN_PREFIX))}
    if not found:
        raise _unknown(metric)
    if len(found) > 1:
        told = f"the metric {metric!r} is offered {len(found)} times: {', '.join(sorted(found))}; uninstall all but one"
        raise InvalidInput(told, code="metric_unknown", field=METRIC_FIELD)
    return next(iter(found.values()))


def _unknown(metric: str) -> InvalidInput:
    plugins = sorted({PLUGIN_PREFIX + entry.name for entry in entry_points(group=GROUP)})
    known = ", ".join((AUTO, *METRICS, *plugins))
    return InvalidInput(
        f"there is no metric {metric!r}; choose from {known}, or install a package with an entry point in {GROUP!r}",
        code="metric_unknown",
        field=METRIC_FIELD,
    )


def _readable(tensors: dict[str, Array]) -> dict[str, Array]:
    return {name: _locked(array) for name, array in tensors.items()}


def _locked(array: Array) -> Array:
    seen = array.view()
    seen.flags.writeable = False
    return seen
