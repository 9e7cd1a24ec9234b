"""Which of a report's facts each chart shows. Filters of the report's template; a chart of nothing is an empty text."""

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from controller.web import charts
from controller.web.pareto import Point, pareto

Document = dict[str, Any]
ENDED_BADLY = ("refused", "failed", "cancelled")
SOURCE = "source"


def standing(report: Document) -> list[Document]:
    """Return the variants that came to something, or still may."""
    return [variant for variant in report["variants"] if variant["state"] not in ENDED_BADLY]


def fallen(report: Document) -> list[Document]:
    """Return the variants that were refused, failed or cancelled."""
    return [variant for variant in report["variants"] if variant["state"] in ENDED_BADLY]


def sizes_chart(report: Document) -> Markup:
    """Draw the sizes of the source and of every variant that has some."""
    rows = [charts.Sizes(SOURCE, report["source"]["bytes"], report["source"]["wire_bytes"])]
    for one in standing(report):
        file_bytes, wire_bytes = one["sizes"]["file_bytes"], one["sizes"]["wire_bytes"]
        if file_bytes is not None or wire_bytes is not None:
            rows.append(charts.Sizes(one["recipe"], file_bytes, wire_bytes, _is_published(one)))
    return charts.sizes(rows) if len(rows) > 1 else charts.NOTHING


def values_chart(report: Document) -> Markup:
    """Draw the value of every variant that was evaluated, with its interval."""
    rows = [
        charts.Value(one["recipe"], found["value"], found["value_ci"], found["source_value"], _is_published(one))
        for one in standing(report)
        for found in [one["evaluation"] or {}]
        if found.get("value") is not None
    ]
    return charts.values(rows, metric_of(report))


def latency_chart(report: Document, device_class: str) -> Markup:
    """Draw the latencies of every variant that was measured for a class."""
    rows = [
        charts.Latency(one["recipe"], cost["p50_us"], cost["p90_us"], cost["p99_us"], _is_published(one))
        for one in standing(report)
        for cost in [one["costs"].get(device_class) or {}]
        if all(cost.get(name) for name in ("p50_us", "p90_us", "p99_us"))
    ]
    return charts.latencies(rows, device_class)


def pareto_chart(search: Document) -> Markup:
    """Draw the measured candidates of a search; those without a value cannot be placed."""
    measured = [one for one in search["candidates"] if _can_be_placed(one)]
    points = [
        Point(
            name=one["recipe"],
            wire_bytes=one["wire_bytes"],
            value=one["value"],
            latency_us=one["latency_us"],
            on_front=one["is_on_front"],
            chosen=one["is_chosen"],
        )
        for one in measured
    ]
    return pareto(points, next((one["metric"] for one in measured), None))


def layers_chart(variant: Document) -> Markup:
    """Draw the layers of a variant."""
    return charts.layers(
        [charts.Layer(one["name"], one["sparsity"], one["bits"], one["error"]) for one in variant["layers"]]
    )


def bought_chart(variant: Document, source_bytes: int) -> Markup:
    """Draw how the source's bytes became those that travel for a variant."""
    return charts.bought(list(_stages(variant, source_bytes))) if variant["sizes"]["packed_bytes"] else charts.NOTHING


def metric_of(report: Document) -> str | None:
    """Return the metric of a report's values."""
    found = report["source"]["evaluation"]
    return found["metric"] if found else None


def ranked(search: Document) -> list[Document]:
    """Return the candidates of a search: the chosen one, the front, the others measured, the rest; by wire bytes."""

    def rank(one: Document) -> tuple[bool, bool, bool, float, str]:
        wire = one["wire_bytes"]
        unmeasured = one["latency_us"] is None
        return not one["is_chosen"], not one["is_on_front"], unmeasured, wire or 0.0, one["recipe"]

    return sorted(search["candidates"], key=rank)


def _stages(variant: Document, source_bytes: int) -> Iterator[tuple[str, int]]:
    yield SOURCE, source_bytes
    for number, step in enumerate(variant["steps"], start=1):
        yield f"{number}. {step['step']}", step["bytes_after"]
    packed, golden = variant["sizes"]["packed_bytes"], variant["sizes"]["golden_bytes"]
    yield "packed", packed
    if golden:
        yield "with golden tensors", packed + golden


def _can_be_placed(candidate: Document) -> bool:
    return all(candidate[name] is not None for name in ("wire_bytes", "value", "latency_us")) and not candidate["error"]


def _is_published(variant: Document) -> bool:
    return bool(variant["state"] == "published")
