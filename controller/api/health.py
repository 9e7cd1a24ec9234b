"""Probes: alive, ready, and which version this is."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

from controller.api.dependencies import ServicesDep
from controller.domain.errors import Unavailable
from controller.store.database import check_reachable
from controller.store.migrate import is_current

router = APIRouter(tags=["health"])


@router.get("/livez")
def livez() -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(services: ServicesDep) -> dict[str, Any]:
    """Answer 200 when requests can be served: the database is there and its tables are current."""
    seconds = check_reachable(services.database.engine)
    if not is_current(services.database.engine):
        raise Unavailable(
            "the database's tables are not current; run `edgefleet server migrate`", code="migrations_missing"
        )
    return {"status": "ready", "database_ms": round(seconds * 1000, 2)}


@router.get("/version")
def get_version() -> dict[str, str]:
    """Say which release is running."""
    return {"version": version("edgefleet")}
