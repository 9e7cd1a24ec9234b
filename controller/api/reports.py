"""Operator routes for the report of a version: as JSON, and as a file to be kept."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse, Response

from controller.api.dependencies import READS, ServicesDep
from controller.store import catalog
from controller.store.views.report import report
from controller.web.report_page import report_file
from controller.wiring import Services

router = APIRouter(prefix="/api/v1", tags=["reports"])


def report_of_version(services: Services, name: str, number: int) -> dict[str, Any]:
    """Return a version's report in its JSON form; NotFound names what is missing."""
    with services.database.reading() as tx:
        found = report(tx, catalog.version_numbered(tx, name, number).id)
    encoded: dict[str, Any] = jsonable_encoder(found)
    return encoded


@router.get("/models/{name}/versions/{number}/report", response_model=dict[str, Any], dependencies=[READS])
def get_report(
    name: str,
    number: int,
    services: ServicesDep,
    format: Literal["json", "html"] = "json",  # noqa: A002 -- it is the query's name
) -> Response:
    """Show what became of a version: sizes, accuracy, latency, steps, layers, lineage; `html` is a file to be kept."""
    found = report_of_version(services, name, number)
    return report_file(found, "html") if format == "html" else JSONResponse(found)
