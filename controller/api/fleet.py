"""Operator routes for devices, groups and enrolment tokens."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from controller.api.dependencies import READS, RolloutsProposer, ServicesDep, requires
from controller.domain.operators import Operator, Scope
from controller.store import enrolment_tokens, groups
from controller.store.views import fleet as views
from controller.trust.identity.enrolment import new_enrolment_token
from controller.use_cases.approve_device import approve_device
from controller.use_cases.clear_suspicion import clear_suspicion
from controller.use_cases.create_enrolment_token import TokenTerms, create_enrolment_token
from controller.use_cases.create_group import create_group
from controller.use_cases.explain_device import explain_device
from controller.use_cases.revoke_device import revoke_device

router = APIRouter(prefix="/api/v1", tags=["fleet"])
Enroller = Annotated[Operator, Depends(requires(Scope.DEVICES_ENROL))]
Revoker = Annotated[Operator, Depends(requires(Scope.DEVICES_REVOKE))]
Label = Annotated[str, StringConstraints(max_length=128)]


class NewGroup(BaseModel):
    """A group to be created: a selector, or a list of device names."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(examples=["lyon"])
    selector: str | None = Field(None, examples=["site=lyon,profile!=gateway"])
    members: list[str] | None = Field(None, max_length=10_000)


class NewToken(BaseModel):
    """An enrolment token to be created; the labels are given to every device that enrols with it."""

    model_config = ConfigDict(extra="forbid")
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=64)
    uses: int = 1
    # Bounded, because there are numbers that no span of time has.
    ttl_s: float = Field(86_400, ge=-1e10, le=1e10, description="How long it can be used, in seconds.")
    needs_approval: bool = Field(False, description="Whether each device waits until an operator approves it.")
    serial: str | None = Field(None, description="The one machine, by its serial number, that may use it.")
    name: str | None = Field(None, description="The name that the machine's device gets; needs `serial`.")


@router.get("/devices", dependencies=[READS])
def list_devices(
    services: ServicesDep, group: str | None = None, page_size: int = 50, page_token: str | None = None
) -> dict[str, Any]:
    """List devices, a page at a time, optionally of one group."""
    with services.database.reading() as tx:
        chosen = groups.group_named(tx, group) if group else None
        return views.devices(tx, chosen, page_size, page_token)


@router.get("/devices/{name_or_id}", dependencies=[READS])
def get_device(name_or_id: str, services: ServicesDep) -> dict[str, Any]:
    """Show one device and what its slots run."""
    with services.database.reading() as tx:
        return views.device(tx, name_or_id)


@router.get("/devices/{name_or_id}/explanation", dependencies=[READS])
def get_explanation(name_or_id: str, services: ServicesDep) -> dict[str, Any]:
    """Say what the device shall run, and why."""
    return explain_device(services.database, name_or_id)


@router.post("/devices/{name_or_id}:approve")
def post_approval(name_or_id: str, services: ServicesDep, operator: Enroller) -> dict[str, Any]:
    """Let in a device that waits."""
    return get_device(
        approve_device(services.database, name_or_id, now=services.clock(), actor=operator.name), services
    )


@router.post("/devices/{name_or_id}:revoke")
def post_revocation(name_or_id: str, services: ServicesDep, operator: Revoker) -> dict[str, Any]:
    """Turn a device away for good: it gets nothing any more, at once."""
    return get_device(revoke_device(services.database, name_or_id, now=services.clock(), actor=operator.name), services)


@router.post("/devices/{name_or_id}:clear-suspicion")
def post_clearance(name_or_id: str, services: ServicesDep, operator: Revoker) -> dict[str, Any]:
    """Take the reports of a device again that was suspected to be two machines."""
    return get_device(
        clear_suspicion(services.database, name_or_id, now=services.clock(), actor=operator.name), services
    )


@router.post("/groups", status_code=201)
def post_group(wanted: NewGroup, services: ServicesDep, _operator: RolloutsProposer) -> dict[str, Any]:
    """Create a group."""
    create_group(services.database, wanted.name, wanted.selector, wanted.members, now=services.clock())
    return get_group(wanted.name, services)


@router.get("/groups", dependencies=[READS])
def list_groups(services: ServicesDep) -> dict[str, Any]:
    """List the groups."""
    with services.database.reading() as tx:
        return {"items": views.groups(tx)}


@router.get("/groups/{name}", dependencies=[READS])
def get_group(name: str, services: ServicesDep) -> dict[str, Any]:
    """Show one group with the number of devices that match now."""
    with services.database.reading() as tx:
        return views.group(tx, groups.group_named(tx, name))


@router.post("/tokens", status_code=201)
def post_token(wanted: NewToken, services: ServicesDep, operator: Enroller) -> dict[str, Any]:
    """Create an enrolment token; its text is in this answer and nowhere else."""
    token = new_enrolment_token(services.image_repository.roots.first_bytes(), services.director_root)
    terms = TokenTerms(
        timedelta(seconds=wanted.ttl_s),
        wanted.uses,
        dict(wanted.labels),
        wanted.needs_approval,
        wanted.serial,
        wanted.name,
    )
    made = create_enrolment_token(services.database, token, terms, now=services.clock(), actor=operator.name)
    return {"id": made.id, "token": made.text, "expires_at": made.expires_at, "uses_left": made.uses_left}


@router.get("/tokens", dependencies=[READS])
def list_tokens(services: ServicesDep) -> dict[str, Any]:
    """List the enrolment tokens, without their secrets."""
    with services.database.reading() as tx:
        return {"items": enrolment_tokens.all_tokens(tx)}
