"""Operator routes for pins and rollouts."""

from enum import StrEnum
from typing import Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.api.dependencies import ServicesDep, operator_only
from controller.domain.desired_state import PIN_SOAK_S
from controller.domain.gates import DEADLINE_MAX_S, GatePolicy
from controller.domain.rollout import RolloutEvent
from controller.store.views import rollouts as views
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.set_pin import delete_pin, set_pin
from controller.use_cases.steer_rollout import steer_rollout

router = APIRouter(prefix="/api/v1", tags=["rollouts"], dependencies=[Depends(operator_only)])
_DEFAULT = GatePolicy()


class RolloutVerb(StrEnum):
    """What a person may do to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


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


@router.put("/pins")
def put_pin(wanted: NewPin, services: ServicesDep) -> dict[str, Any]:
    """Set the pin of a model on a group."""
    now = services.clock()
    pin_id = set_pin(services.database, wanted.model, wanted.version, wanted.group, now=now, soak_s=wanted.soak_s)
    with services.database.reading() as tx:
        return next(pin for pin in views.pins(tx) if pin["id"] == pin_id)


@router.get("/pins")
def list_pins(services: ServicesDep) -> dict[str, Any]:
    """List the pins."""
    with services.database.reading() as tx:
        return {"items": views.pins(tx)}


@router.delete("/pins/{pin_id}", status_code=204)
def remove_pin(pin_id: str, services: ServicesDep) -> Response:
    """Delete a pin; devices keep what they run."""
    delete_pin(services.database, pin_id, now=services.clock())
    return Response(status_code=204)


@router.post("/rollouts", status_code=201)
def post_rollout(wanted: NewRollout, services: ServicesDep, *, validate_only: bool = False) -> dict[str, Any]:
    """Start a rollout, or with `validate_only` say what it would be and write nothing."""
    gate = GatePolicy(**wanted.gate.model_dump())
    request = RolloutRequest(wanted.model, wanted.version, wanted.group, wanted.stages, gate)
    preview = create_rollout(services.database, request, now=services.clock(), validate_only=validate_only)
    with services.database.reading() as tx:
        document = views.rollout_document(tx, preview.rollout, "")
    return {**document, "validate_only": validate_only, "incompatible": preview.incompatible}


@router.get("/rollouts")
def list_rollouts(services: ServicesDep, limit: int = 50) -> dict[str, Any]:
    """List the newest rollouts."""
    with services.database.reading() as tx:
        return {"items": views.rollouts(tx, max(1, min(limit, 500)))}


@router.get("/rollouts/{rollout_id}")
def get_rollout(rollout_id: str, services: ServicesDep) -> dict[str, Any]:
    """Show one rollout: where it is, what it waits for, whom it hit."""
    with services.database.reading() as tx:
        return views.rollout(tx, rollout_id)


@router.post("/rollouts/{rollout_id}:{verb}")
def post_verb(rollout_id: str, verb: RolloutVerb, services: ServicesDep) -> dict[str, Any]:
    """Pause, resume or abort a rollout."""
    steer_rollout(services.database, rollout_id, RolloutEvent(verb), now=services.clock())
    return get_rollout(rollout_id, services)
