"""Signed metadata and artifacts as static files. Nobody needs to be trusted to serve these: devices check them.

The plaintexts of sealed models are for operators who may read; everybody else gets what travels.
"""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request
from fastapi import Path as PathParameter
from starlette.responses import FileResponse, Response

from controller.api.dependencies import ServicesDep, operator_who_shows
from controller.domain.errors import NotFound
from controller.domain.operators import Scope, missing_scope

router = APIRouter(tags=["files"])
NUMBERED = "public, max-age=31536000, immutable"
WITHHELD = "private, no-store"
NEWEST = "public, max-age=30"
"""timestamp.json changes in place; a root that is not there yet must not be remembered as missing for long."""


class LargeChunks(FileResponse):
    """Sends in pieces large enough that the hop to a thread for each read costs little."""

    chunk_size = 1024 * 1024


@router.head("/artifacts/sha256/{digest}", include_in_schema=False)
@router.get("/artifacts/sha256/{digest}", response_class=LargeChunks)
def get_artifact(
    digest: Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$")],
    request: Request,
    services: ServicesDep,
    if_none_match: Annotated[str | None, Header()] = None,
    authorization: Annotated[str, Header()] = "",
) -> Response:
    """Send an artifact, or the range that is asked for. Its bytes never change, and neither does its ETag."""
    withheld = services.blobs.is_withheld(digest)
    if withheld:
        operator = operator_who_shows(request, authorization.removeprefix("Bearer "))
        if Scope.READ not in operator.scopes:
            raise missing_scope(operator, frozenset({Scope.READ}))
    headers = {"ETag": f'"sha256-{digest}"', "Cache-Control": WITHHELD if withheld else NUMBERED}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    path = services.blobs.path(digest)
    if not path.is_file():
        raise NotFound(f"there is no artifact {digest}", code="artifact_unknown")
    return LargeChunks(path, headers=headers, media_type="application/octet-stream")


@router.head("/tuf/{name:path}", include_in_schema=False)
@router.get("/tuf/{name:path}", response_class=LargeChunks)
def get_signed_file(name: str, services: ServicesDep) -> Response:
    """Send one file of the image repository or of the director's root chain."""
    root = services.settings.tuf_dir.resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or path.suffix != ".json" or not path.is_file():
        raise NotFound(f"there is no signed file {name}", code="file_unknown")
    return LargeChunks(path, headers={"Cache-Control": _cache_control(path)}, media_type="application/json")


def _cache_control(path: Path) -> str:
    return NEWEST if path.name == "timestamp.json" else NUMBERED
