"""The HTTP application: operators' routes, devices' routes, signed files, pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from controller.api import (
    audit,
    catalog,
    compression,
    files,
    fleet,
    health,
    lineage,
    operators,
    overview,
    recipes,
    releases,
    reports,
    rollouts,
    trust,
    variant_rules,
)
from controller.api.dependencies import operator_who_shows, services_of
from controller.api.device import routes as device_routes
from controller.api.device.asgi import DeviceDispatch
from controller.api.device.hot_path import HotPath
from controller.api.problems import install_problem_handlers
from controller.api.request_context import RequestContext
from controller.domain.errors import NotAllowed, NotFound
from controller.domain.operators import Scope
from controller.store.views.overview import overview as overview_document
from controller.trust.ceremonies.trust_report import SINGLE_OPERATOR, single_operator_notice
from controller.web import report_page
from controller.web.pages import make_router
from controller.wiring import Services

CUSTODY_HEADERS = ((b"edgefleet-custody", SINGLE_OPERATOR.encode()),)
"""Goes out with every answer of an installation with a single operator; commands say it to people."""


def create_app(services: Services) -> ASGIApp:
    """Return the application. Polls and reports take a short way around the framework (`api/device`)."""
    settings = services.settings
    hot_path = HotPath(
        services.database,
        services.director,
        services.sessions,
        poll_s=settings.poll_s,
        report_lanes=1 if settings.is_sqlite else 2,
        clock=services.clock,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await hot_path.start()
        try:
            yield
        finally:
            await hot_path.stop()

    app = FastAPI(
        title="Edgefleet",
        version=version("edgefleet"),
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from a foreign host
        redoc_url=None,
    )
    app.state.services = services
    app.state.hot_path = hot_path
    notice = single_operator_notice(settings.is_single_operator)
    for router in (
        catalog.router,
        compression.router,
        lineage.router,
        reports.router,
        recipes.router,
        releases.router,
        fleet.router,
        rollouts.router,
        variant_rules.router,
        overview.router,
        operators.router,
        audit.router,
        trust.router,
        health.router,
        files.router,
        device_routes.router,
        make_router(_overview, _may_read, notice),
        report_page.make_router(_report, _may_read, notice),
    ):
        app.include_router(router)
    install_problem_handlers(app)
    return DeviceDispatch(RequestContext(app, CUSTODY_HEADERS if notice else ()), hot_path)


def _overview(request: Request) -> dict[str, Any]:
    with services_of(request).database.reading() as tx:
        return overview_document(tx)


def _report(request: Request, name: str, number: int) -> dict[str, Any] | None:
    try:
        return reports.report_of_version(services_of(request), name, number)
    except NotFound:
        return None


def _may_read(request: Request, token: str) -> bool:
    try:
        return Scope.READ in operator_who_shows(request, token).scopes
    except NotAllowed:
        return False
