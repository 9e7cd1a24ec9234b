"""The first page: the fleet at a glance, its versions, its rollouts and its latest events.

`make_router` is given where the facts come from and what lets somebody in; it knows neither database nor
settings. The page refreshes itself by fetching its own main part (`/?part=overview`).
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

COOKIE = "edgefleet_operator"
COOKIE_S = 7 * 86_400
STATIC = {"page.css": "text/css", "refresh.js": "text/javascript"}
_STATIC_DIR = Path(__file__).parent / "static"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",  # the address that lets somebody in holds the token
    "X-Content-Type-Options": "nosniff",
}

Facts = Callable[[Request], dict[str, Any]]
SignIn = Callable[[Request, str], bool]
"""Tells whether the token that is shown with a request lets somebody read the pages."""


def make_router(overview: Facts, may_read: SignIn, notice: str | None = None) -> APIRouter:
    """Return the routes of the pages.

    `overview` gives what GET /api/v1/overview answers; `may_read` says which tokens let people in; `notice` is a line
    that the pages show permanently.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page(request: Request, token: str | None = None, part: str | None = None) -> Response:
        turned_away = turn_away(request, token, may_read)
        if turned_away:
            return turned_away
        template = "overview.html" if part == "overview" else "page.html"
        return html(template, 200, overview=overview(request), notice=notice)

    @router.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            return html("missing.html", 404)
        return FileResponse(_STATIC_DIR / name, media_type=STATIC[name], headers={"Cache-Control": "max-age=3600"})

    return router


def turn_away(request: Request, token: str | None, may_read: SignIn) -> Response | None:
    """Return the answer to who does not show an operator's cookie, or brings the token for it; None for who does."""
    if token is not None:
        return _let_in(request, token) if may_read(request, token) else _refuse("That token lets nobody read this.")
    shown = request.cookies.get(COOKIE, "")
    if not shown or not may_read(request, shown):
        return _refuse("This page is for operators.")
    return None


def ago(moment: datetime | str, now: datetime | None = None) -> str:
    """Return how long ago a moment was, in the largest unit that fits."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


def iso(moment: datetime | str) -> str:
    """Return a moment in the form that `<time datetime>` takes."""
    return moment if isinstance(moment, str) else moment.isoformat(timespec="seconds")


def stage_rows(rollout: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a rollout's stages with what has become of each: passed, now, stopped or waits."""
    ended_badly = rollout["state"] in {"reverting", "aborted"}
    rows = []
    for number, stage in enumerate(rollout["stages"], start=1):
        if number < rollout["stage"] or rollout["state"] == "succeeded":
            mark = "passed"
        elif number > rollout["stage"] or rollout["state"] == "proposed":
            mark = "waits"
        else:
            mark = "stopped" if ended_badly else "now"
        healthy = 0 if mark == "waits" else min(rollout["counts"]["healthy"], stage["devices"])
        rows.append({**stage, "number": number, "mark": mark, "healthy": healthy})
    return rows


_templates = Environment(
    loader=PackageLoader("controller.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(ago=ago, iso=iso, stage_rows=stage_rows)


def add_filters(**filters: Callable[..., object]) -> None:
    """Let templates use these, too."""
    _templates.filters.update(filters)


def _let_in(request: Request, token: str) -> Response:
    response = RedirectResponse(request.url.path, 303, HEADERS)
    response.set_cookie(
        COOKIE, token, max_age=COOKIE_S, httponly=True, samesite="lax", secure=request.url.scheme == "https"
    )
    return response


def _refuse(reason: str) -> Response:
    return html("sign_in.html", 401, reason=reason)


def html(template: str, status: int, **facts: object) -> Response:
    """Return a page."""
    return HTMLResponse(render(template, **facts), status, HEADERS)


def render(template: str, **facts: object) -> str:
    """Return a template with facts in it."""
    return _templates.get_template(template).render(facts)
