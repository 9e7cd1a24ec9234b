"""Operator routes for pins and rollouts."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.api.dependencies import READS, RolloutsProposer, ServicesDep, requires
from controller.domain.desired_state import PIN_SOAK_S
from controller.domain.gates import DEADLINE_MAX_S, GatePolicy
from controller.domain.operators import Operator, Scope
from controller.domain.rollout import RolloutEvent
from controller.store.rollouts import rollout_by_id
from controller.store.views import rollouts as views
from controller.trust.approvals import ENVELOPE_BYTES_MAX
from controller.use_cases.approve_rollout import approve_rollout, manifests_to_approve
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.set_pin import delete_pin, set_pin
from controller.use_cases.steer_rollout import steer_rollout
from controller.wiring import Services

router = APIRouter(prefix="/api/v1", tags=["rollouts"])
_DEFAULT = GatePolicy()
Approver = Annotated[Operator, Depends(requires(Scope.ROLLOUTS_APPROVE))]
Stopper = Annotated[Operator, Depends(requires(Scope.ROLLOUTS_PROPOSE, Scope.ROLLOUTS_APPROVE))]
"""Whoever may start a rollout or let it start may stop it."""


class NewPin(BaseModel):
    """A pin to be set: this group runs this version from now on."""

    model_config = ConfigDict(extra="forbid")
    model: str
    version: int
    group: str = "all"
    soak_s: float = Field(
        PIN_SOAK_S, ge=0, le=DEADLINE_MAX_S, description="How long it soaks on each device, in seconds."
    )


class Gate(BaseModel):
    """What each stage must show; see the explanation of gates."""

    model_config = ConfigDict(extra="forbid")
    success_share: float = _DEFAULT.success_share
    failure_share: float = _DEFAULT.failure_share
    soak_s: float = _DEFAULT.soak_s
    silent_after_s: float = _DEFAULT.silent_after_s


class NewRollout(BaseModel):
    """A rollout to be started; `stages` are cumulative percentages that end at 100."""

    model_config = ConfigDict(extra="forbid")
    model: str
    version: int
    group: str = "all"
    stages: list[float] = Field([10.0, 50.0, 100.0], max_length=100)
    gate: Gate = Gate()


class Approval(BaseModel):
    """An approval; the signed form is for installations whose signer asks for one."""

    model_config = ConfigDict(extra="forbid")
    approval: str | None = Field(
        None, max_length=ENVELOPE_BYTES_MAX, description="DSSE envelope (JSON) of the approver's statement."
    )


@router.put("/pins")
def put_pin(wanted: NewPin, services: ServicesDep, operator: RolloutsProposer) -> dict[str, Any]:
    """Set the pin of a model on a group; released versions take a rollout where two persons are needed."""
    pin_id = set_pin(
        services.database,
        wanted.model,
        wanted.version,
        wanted.group,
        soak_s=wanted.soak_s,
        two_persons=not services.settings.is_single_operator,
        actor=operator.name,
        now=services.clock(),
    )
    with services.database.reading() as tx:
        return next(pin for pin in views.pins(tx) if pin["id"] == pin_id)


@router.get("/pins", dependencies=[READS])
def list_pins(services: ServicesDep) -> dict[str, Any]:
    """List the pins."""
    with services.database.reading() as tx:
        return {"items": views.pins(tx)}


@router.delete("/pins/{pin_id}", status_code=204)
def remove_pin(pin_id: str, services: ServicesDep, operator: RolloutsProposer) -> Response:
    """Delete a pin; devices keep what they run."""
    delete_pin(services.database, pin_id, actor=operator.name, now=services.clock())
    return Response(status_code=204)


@router.post("/rollouts", status_code=201)
def post_rollout(
    wanted: NewRollout, services: ServicesDep, operator: RolloutsProposer, *, validate_only: bool = False
) -> dict[str, Any]:
    """Start or propose a rollout, or with `validate_only` say what it would be and write nothing."""
    gate = GatePolicy(**wanted.gate.model_dump())
    preview = create_rollout(
        services.database,
        RolloutRequest(wanted.model, wanted.version, wanted.group, wanted.stages, gate),
        validate_only=validate_only,
        two_persons=not services.settings.is_single_operator,
        actor=operator.name,
        token_id=operator.token_id,
        now=services.clock(),
    )
    with services.database.reading() as tx:
        document = views.rollout_document(tx, preview.rollout, "")
    return {**document, "validate_only": validate_only, "incompatible": preview.incompatible}


@router.get("/rollouts", dependencies=[READS])
def list_rollouts(services: ServicesDep, limit: int = 50) -> dict[str, Any]:
    """List the newest rollouts."""
    with services.database.reading() as tx:
        return {"items": views.rollouts(tx, max(1, min(limit, 500)))}


@router.get("/rollouts/{rollout_id}", dependencies=[READS])
def get_rollout(rollout_id: str, services: ServicesDep) -> dict[str, Any]:
    """Show one rollout: where it is, what it waits for, whom it hit."""
    with services.database.reading() as tx:
        return views.rollout(tx, rollout_id)


@router.get("/rollouts/{rollout_id}/manifests", dependencies=[READS])
def get_manifests(rollout_id: str, services: ServicesDep) -> dict[str, Any]:
    """List the released manifests (sha256) that the rollout brings: what a signed approval names."""
    with services.database.reading() as tx:
        return {"items": manifests_to_approve(tx, rollout_by_id(tx, rollout_id)[0])}


@router.post("/rollouts/{rollout_id}:approve")
def post_approve(
    rollout_id: str, services: ServicesDep, operator: Approver, given: Approval | None = None
) -> dict[str, Any]:
    """Let a proposed rollout begin; its proposer may not."""
    approve_rollout(
        services.database,
        rollout_id,
        actor=operator.name,
        token_id=operator.token_id,
        approval=given.approval if given else None,
        now=services.clock(),
    )
    return get_rollout(rollout_id, services)


@router.post("/rollouts/{rollout_id}:pause")
def post_pause(rollout_id: str, services: ServicesDep, operator: Stopper) -> dict[str, Any]:
    """Give the version to no further device."""
    return _steer(rollout_id, RolloutEvent.PAUSE, services, operator)


@router.post("/rollouts/{rollout_id}:resume")
def post_resume(rollout_id: str, services: ServicesDep, operator: RolloutsProposer) -> dict[str, Any]:
    """Go on with a paused rollout."""
    return _steer(rollout_id, RolloutEvent.RESUME, services, operator)


@router.post("/rollouts/{rollout_id}:abort")
def post_abort(rollout_id: str, services: ServicesDep, operator: Stopper) -> dict[str, Any]:
    """End a rollout: devices that took the version go back; a proposed one is rejected."""
    return _steer(rollout_id, RolloutEvent.ABORT, services, operator)


def _steer(rollout_id: str, event: RolloutEvent, services: Services, operator: Operator) -> dict[str, Any]:
    steer_rollout(services.database, rollout_id, event, actor=operator.name, now=services.clock())
    return get_rollout(rollout_id, services)
