"""The report of a version: a page that follows the work, and the same as one file that loads nothing.

`make_router` is given where reports come from and what lets somebody in, as in `pages`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from controller.web import figures, report_charts
from controller.web.pages import HEADERS, SignIn, add_filters, html, render, turn_away

Report = Callable[[Request, str, int], dict[str, Any] | None]
FILE_TYPES = {"html": "text/html; charset=utf-8", "json": "application/json"}
_STYLE = (Path(__file__).parent / "static" / "page.css").read_text()


def make_router(report: Report, may_read: SignIn, notice: str | None = None) -> APIRouter:
    """Return the routes of the report's page.

    `report` gives what GET /api/v1/models/NAME/versions/NUMBER/report answers, None where there is no such version;
    `notice` is a line that the page shows permanently.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/models/{name}/versions/{number}")
    def page(
        request: Request,
        name: str,
        number: int,
        token: str | None = None,
        part: str | None = None,
        format: Literal["html", "json"] | None = None,  # noqa: A002 -- it is the query's name
    ) -> Response:
        turned_away = turn_away(request, token, may_read)
        if turned_away:
            return turned_away
        found = report(request, name, number)
        if found is None:
            return html("missing.html", 404)
        if format:
            return report_file(found, format)
        template = "report_body.html" if part == "report" else "report.html"
        return html(template, 200, report=found, on_page=True, notice=notice)

    return router


def report_file(report: dict[str, Any], kind: str) -> Response:
    """Return a report as a file to be kept, `html` or `json`."""
    named = f"{report['model']}-v{report['number']}-report.{kind}"
    content = report_html(report) if kind == "html" else json.dumps(report, indent=2, ensure_ascii=False, default=str)
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{named}"'}
    return Response(content, 200, headers, FILE_TYPES[kind])


def report_html(report: dict[str, Any]) -> str:
    """Return a report as one HTML document: styles inside, no scripts, nothing loaded from anywhere."""
    return render("report_file.html", report=report, on_page=False, style=_STYLE)


def budget_words(budget: dict[str, Any]) -> str:
    """Return a budget as people read it."""
    written = {
        "size": ("size", figures.size),
        "latency": ("latency", figures.duration),
        "memory": ("memory", figures.size),
        "drop": ("drop", lambda drop: f"{drop * 100:.3g} points"),
    }
    limits = [
        f"{name} \N{LESS-THAN OR EQUAL TO} {write(budget[key])}"
        for key, (name, write) in written.items()
        if budget[key] is not None
    ]
    return ", ".join([*limits, f"prefer {budget['prefer']}"])


def settings(parameters: dict[str, Any]) -> str:
    """Return a step's parameters in one line, without those that are null."""
    given = {name: value for name, value in parameters.items() if value is not None}
    return ", ".join(
        f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in given.items()
    )


def overall_share(progress: dict[str, Any]) -> float:
    """Return how far a variant's work is, 0 to 1, all of its jobs together."""
    return float((progress["number"] - 1 + progress["share"]) / max(progress["of"], 1))


add_filters(
    size=figures.size,
    duration=figures.duration,
    share=figures.share,
    value=figures.value,
    lost=figures.drop,
    ci=figures.interval,
    ratio=figures.ratio,
    small=figures.small,
    budget_words=budget_words,
    overall_share=overall_share,
    settings=settings,
    standing=report_charts.standing,
    fallen=report_charts.fallen,
    metric_of=report_charts.metric_of,
    ranked=report_charts.ranked,
    sizes_chart=report_charts.sizes_chart,
    values_chart=report_charts.values_chart,
    latency_chart=report_charts.latency_chart,
    pareto_chart=report_charts.pareto_chart,
    layers_chart=report_charts.layers_chart,
    bought_chart=report_charts.bought_chart,
)
