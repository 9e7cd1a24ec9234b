"""Operator routes for releases: propose, show, sign, cancel, withdraw, renew.

A signature counts for what it is: whoever brings it needs a token, and the token alone makes nothing released.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from securesystemslib.signer import Signature

from controller.api.dependencies import READS, ServicesDep, requires
from controller.domain.operators import Operator, Scope
from controller.domain.releases import HARDWARE_MAX
from controller.trust.ceremonies import single_operator
from controller.use_cases.propose_release import ReleaseOffice, ReleaseRequest, cancel_release, propose_release
from controller.use_cases.show_release import list_releases, show_release
from controller.use_cases.sign_release import sign_release
from controller.use_cases.withdraw_release import renew_release, withdraw_release
from controller.wiring import Services

router = APIRouter(prefix="/api/v1", tags=["releases"])
ReleasesProposer = Annotated[Operator, Depends(requires(Scope.RELEASES_PROPOSE))]


class NewRelease(BaseModel):
    """What of a version is to be released, and on what terms."""

    model_config = ConfigDict(extra="forbid")
    variants: list[str] | None = Field(None, description="None: every published variant.")
    floor: int | None = Field(None, description="Devices that have seen it refuse versions of the model below this.")
    hardware: list[str] = Field([], max_length=HARDWARE_MAX, description="Device profiles that may run it; none: all.")


class NewSignature(BaseModel):
    """A signature over the canonical bytes of a release's document."""

    model_config = ConfigDict(extra="forbid")
    keyid: str = Field(pattern="^[0-9a-f]{64}$")
    sig: str = Field(pattern="^([0-9a-f]{2})+$", max_length=16_384)


def office_of(services: Services) -> ReleaseOffice:
    """Return what releases are made with; where one person is everybody, roles come into being with the first one."""
    office = ReleaseOffice(services.database, services.image_repository, services.settings.tuf_dir)
    if not services.settings.is_single_operator:
        return office
    tuf_dir, keys = services.settings.tuf_dir, services.settings.keys_dir / "offline"
    return ReleaseOffice(
        services.database,
        services.image_repository,
        tuf_dir,
        lambda model, now: single_operator.ensure_release_role(tuf_dir, keys, services.signer, model, now),
    )


@router.post("/models/{name}/versions/{number}/release", status_code=201)
def post_release(
    name: str, number: int, wanted: NewRelease, services: ServicesDep, operator: ReleasesProposer
) -> dict[str, Any]:
    """Propose to release a version; release keys sign the draft elsewhere."""
    request = ReleaseRequest(name, number, wanted.variants, wanted.floor, tuple(wanted.hardware))
    proposed = propose_release(office_of(services), request, now=services.clock(), actor=operator.name)
    return get_release(proposed, services)


@router.get("/releases", dependencies=[READS])
def get_releases(services: ServicesDep, limit: int = 50) -> dict[str, Any]:
    """List the newest releases."""
    return {"items": list_releases(office_of(services), max(1, min(limit, 500)), now=services.clock())}


@router.get("/releases/{release_id}", dependencies=[READS])
def get_release(release_id: str, services: ServicesDep) -> dict[str, Any]:
    """Show a release: its document, what it changes, who has signed and who may."""
    return show_release(office_of(services), release_id, now=services.clock())


@router.post("/releases/{release_id}/signatures")
def post_signature(
    release_id: str, wanted: NewSignature, services: ServicesDep, operator: ReleasesProposer
) -> dict[str, Any]:
    """Add a signature; the one that was missing publishes the release."""
    signature = Signature(wanted.keyid, wanted.sig)
    sign_release(office_of(services), release_id, signature, now=services.clock(), actor=operator.name)
    return get_release(release_id, services)


@router.post("/releases/{release_id}:cancel")
def post_cancel(release_id: str, services: ServicesDep, operator: ReleasesProposer) -> dict[str, Any]:
    """Cancel an open proposal."""
    cancel_release(office_of(services), release_id, now=services.clock(), actor=operator.name)
    return get_release(release_id, services)


@router.post("/models/{name}/versions/{number}:withdraw", status_code=201)
def post_withdraw(name: str, number: int, services: ServicesDep, operator: ReleasesProposer) -> dict[str, Any]:
    """Propose to withdraw a version: devices that run it keep it, and no other on the channel `prod` gets it."""
    proposed = withdraw_release(office_of(services), name, number, now=services.clock(), actor=operator.name)
    return get_release(proposed, services)


@router.post("/models/{name}:renew-release", status_code=201)
def post_renew(name: str, services: ServicesDep, operator: ReleasesProposer) -> dict[str, Any]:
    """Propose to sign a model's releases again before their signatures expire."""
    return get_release(renew_release(office_of(services), name, now=services.clock(), actor=operator.name), services)
