"""Operator routes for the work on a version: asking for variants, searching for one, watching, cancelling."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from controller.api.dependencies import READS, ModelsWriter, ServicesDep
from controller.domain.costs import CONTROLLER
from controller.domain.ids import SearchId
from controller.store import catalog, variants
from controller.store.job_results import logs_of
from controller.store.views import catalog as catalog_views
from controller.store.views import searches as views
from controller.use_cases.ask_for_variants import ask_for_variants
from controller.use_cases.cancel_work import cancel_search, cancel_variant
from controller.use_cases.search_variants import start_search

router = APIRouter(prefix="/api/v1", tags=["compression"])
VERSION = "/models/{name}/versions/{number}"


class WantedVariants(BaseModel):
    """Recipes to be followed for a version."""

    model_config = ConfigDict(extra="forbid")
    recipes: list[str] = Field(examples=[["structured-50-int8"]])


class NewSearch(BaseModel):
    """A search for the variant that keeps a budget."""

    model_config = ConfigDict(extra="forbid")
    budget: str = Field(max_length=400, examples=["size<=200kB,latency<=1ms,drop<=1pt"])
    profile: str = CONTROLLER.name
    """The device class that latency and memory are measured for."""
    thorough: bool = False
    """Try every recipe, also when a cheap one keeps the budget."""
    publish: bool = True
    """Publish the variant that is chosen."""
    recipes: list[str] | None = Field(None, examples=[["int8", "structured-50-int8"]])
    """The recipes to choose from; whatever can be followed unless set."""


@router.post(f"{VERSION}/variants", status_code=202)
def post_variants(
    name: str, number: int, wanted: WantedVariants, services: ServicesDep, operator: ModelsWriter
) -> dict[str, Any]:
    """Have recipes followed for a version that exists."""
    now, actor = services.clock(), operator.name
    version_id = ask_for_variants(services.database, services.tasks, name, number, wanted.recipes, actor=actor, now=now)
    with services.database.reading() as tx:
        return catalog_views.version(tx, version_id)


@router.post(f"{VERSION}/variants/{{variant}}/cancel")
def post_cancel_variant(
    name: str, number: int, variant: str, services: ServicesDep, operator: ModelsWriter
) -> dict[str, Any]:
    """Cancel the work on a variant."""
    now, actor = services.clock(), operator.name
    version_id = cancel_variant(services.database, name, number, variant, actor=actor, now=now)
    with services.database.reading() as tx:
        return catalog_views.version(tx, version_id)


@router.get(f"{VERSION}/variants/{{variant}}/logs", dependencies=[READS])
def get_logs(name: str, number: int, variant: str, services: ServicesDep) -> dict[str, Any]:
    """Show what the jobs of a variant said, oldest first."""
    with services.database.reading() as tx:
        version = catalog.version_numbered(tx, name, number)
        return {"items": logs_of(tx, variants.variant_of(tx, version.id, variant))}


@router.post(f"{VERSION}/searches", status_code=202)
def post_search(
    name: str, number: int, wanted: NewSearch, services: ServicesDep, operator: ModelsWriter
) -> dict[str, Any]:
    """Search for the variant that keeps a budget."""
    search_id = start_search(
        services.database,
        name,
        number,
        wanted.budget,
        profile=wanted.profile,
        thorough=wanted.thorough,
        publish=wanted.publish,
        recipes=wanted.recipes,
        actor=operator.name,
        now=services.clock(),
    )
    services.tasks.send("sweep")
    return get_search(search_id, services)


@router.get(f"{VERSION}/searches", dependencies=[READS])
def list_searches(name: str, number: int, services: ServicesDep) -> dict[str, Any]:
    """List the searches of a version, newest first."""
    with services.database.reading() as tx:
        return {"items": views.searches(tx, catalog.version_numbered(tx, name, number).id)}


@router.get("/searches/{search_id}", dependencies=[READS])
def get_search(search_id: str, services: ServicesDep) -> dict[str, Any]:
    """Show a search with its candidates and the Pareto front."""
    with services.database.reading() as tx:
        return views.search(tx, SearchId(search_id))


@router.post("/searches/{search_id}/cancel")
def post_cancel_search(search_id: str, services: ServicesDep, operator: ModelsWriter) -> dict[str, Any]:
    """End a search and the work on its candidates."""
    get_search(search_id, services)
    cancel_search(services.database, SearchId(search_id), actor=operator.name, now=services.clock())
    return get_search(search_id, services)
