"""Operator routes for the fleet at a glance and its history."""

from typing import Any

from fastapi import APIRouter

from controller.api.dependencies import READS, ServicesDep
from controller.store.views import overview as views

router = APIRouter(prefix="/api/v1", tags=["overview"])
EVENTS_MAX = 1000


@router.get("/overview", dependencies=[READS])
def get_overview(services: ServicesDep) -> dict[str, Any]:
    """Show the fleet by model, version and state, the newest rollouts and events."""
    with services.database.reading() as tx:
        return views.overview(tx)


@router.get("/events", dependencies=[READS])
def list_events(services: ServicesDep, subject: str | None = None, limit: int = 100) -> dict[str, Any]:
    """List the newest events, of one subject (an id) or of all."""
    with services.database.reading() as tx:
        return {"items": views.events(tx, subject, max(1, min(limit, EVENTS_MAX)))}
