"""The HTTP application: operators' routes, devices' routes, signed files, pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from controller.api import (
    catalog,
    compression,
    files,
    fleet,
    health,
    overview,
    recipes,
    reports,
    rollouts,
    variant_rules,
)
from controller.api.dependencies import services_of
from controller.api.device import routes as device_routes
from controller.api.device.asgi import DeviceDispatch
from controller.api.device.hot_path import HotPath
from controller.api.problems import install_problem_handlers
from controller.api.request_context import RequestContext
from controller.domain.errors import NotFound
from controller.store.views.overview import overview as overview_document
from controller.web import report_page
from controller.web.pages import make_router
from controller.wiring import Services


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
    for router in (
        catalog.router,
        compression.router,
        reports.router,
        recipes.router,
        fleet.router,
        rollouts.router,
        variant_rules.router,
        overview.router,
        health.router,
        files.router,
        device_routes.router,
        make_router(_overview, _operator_token),
        report_page.make_router(_report, _operator_token),
    ):
        app.include_router(router)
    install_problem_handlers(app)
    return DeviceDispatch(RequestContext(app), hot_path)


def _overview(request: Request) -> dict[str, Any]:
    with services_of(request).database.reading() as tx:
        return overview_document(tx)


def _report(request: Request, name: str, number: int) -> dict[str, Any] | None:
    try:
        return reports.report_of_version(services_of(request), name, number)
    except NotFound:
        return None


def _operator_token(request: Request) -> str:
    return services_of(request).operator_token
