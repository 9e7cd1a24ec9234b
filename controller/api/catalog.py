"""Operator routes for uploads, models and versions."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from controller.api.dependencies import READS, ModelsWriter, ServicesDep, requires
from controller.domain.operators import Scope
from controller.domain.promise import AUTO, INTERVAL, POINT, Promise
from controller.store.views import catalog as views
from controller.use_cases.add_version import VersionRequest, add_version
from controller.use_cases.create_model import create_model
from controller.use_cases.store_upload import StoredUpload, record_upload

router = APIRouter(prefix="/api/v1", tags=["catalog"])
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
PIECE_BYTES = 1024 * 1024
"""Uploads are hashed and written in pieces of about this size, each on a worker thread."""


class NewModel(BaseModel):
    """A model to be created."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(examples=["digits"])
    notes: str = Field("", max_length=10_000)
    sealed: bool = Field(False, description="Whether its artifacts travel encrypted; cannot be changed later.")


class NewPromise(BaseModel):
    """What every variant of a version must keep against its source."""

    model_config = ConfigDict(extra="forbid")
    metric: str = Field(AUTO, examples=["accuracy"])
    drop_max: float | None = Field(None, ge=0, examples=[0.01])
    rule: str = Field(POINT, examples=[POINT, INTERVAL])


class NewVersion(BaseModel):
    """A version to be added; its files are uploaded first and named here by digest."""

    model_config = ConfigDict(extra="forbid")
    artifact_sha256: Sha256
    evaluation_sha256: Sha256 | None = None
    calibration_sha256: Sha256 | None = None
    promise: NewPromise | None = None
    format: Literal["onnx", "opaque"] = "onnx"
    notes: str = Field("", max_length=10_000)
    recipes: list[str] | None = Field(None, examples=[["fp32", "int8"]])


@router.post("/uploads", status_code=201, dependencies=[Depends(requires(Scope.MODELS_WRITE))])
async def upload(request: Request, services: ServicesDep) -> dict[str, Any]:
    """Store the raw request body as an artifact; the same bytes are kept once."""
    writer = await run_in_threadpool(services.blobs.open_writer, services.settings.artifact_bytes_max)
    try:
        async for piece in _pieces(request):
            await run_in_threadpool(writer.feed, piece)
        stored = await run_in_threadpool(writer.commit)
    except BaseException:
        writer.abort()
        raise
    recorded: StoredUpload = await run_in_threadpool(record_upload, services.database, stored, now=services.clock())
    return {"sha256": recorded.sha256, "size_bytes": recorded.size_bytes}


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in request.stream():
        waiting += piece
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


@router.post("/models", status_code=201)
def post_model(wanted: NewModel, services: ServicesDep, operator: ModelsWriter) -> dict[str, Any]:
    """Create a model."""
    now = services.clock()
    create_model(services.database, wanted.name, wanted.notes, sealed=wanted.sealed, actor=operator.name, now=now)
    return get_model(wanted.name, services)


@router.get("/models", dependencies=[READS])
def list_models(services: ServicesDep) -> dict[str, Any]:
    """List the models."""
    with services.database.reading() as tx:
        return {"items": views.models(tx)}


@router.get("/models/{name}", dependencies=[READS])
def get_model(name: str, services: ServicesDep) -> dict[str, Any]:
    """Show one model."""
    with services.database.reading() as tx:
        return views.model(tx, name)


@router.post("/models/{name}/versions", status_code=201)
def post_version(name: str, wanted: NewVersion, services: ServicesDep, operator: ModelsWriter) -> dict[str, Any]:
    """Add the next version: it is inspected now, then compressed, evaluated and signed by workers."""
    promise = Promise(**wanted.promise.model_dump()) if wanted.promise else None
    request = VersionRequest(model=name, **wanted.model_dump(exclude={"promise"}), promise=promise)
    added = add_version(
        services.database,
        services.blobs,
        services.tasks,
        request,
        services.inspection_limits,
        signer=services.signer,
        actor=operator.name,
        now=services.clock(),
    )
    with services.database.reading() as tx:
        return views.version(tx, added)


@router.get("/models/{name}/versions", dependencies=[READS])
def list_versions(name: str, services: ServicesDep) -> dict[str, Any]:
    """List the versions of a model with their variants."""
    with services.database.reading() as tx:
        return {"items": views.versions(tx, name)}


@router.get("/models/{name}/versions/{number}", dependencies=[READS])
def get_version(name: str, number: int, services: ServicesDep) -> dict[str, Any]:
    """Show one version with its variants."""
    with services.database.reading() as tx:
        return views.version_numbered(tx, name, number)
