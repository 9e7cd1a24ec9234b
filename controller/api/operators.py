"""Operator routes for operators' tokens: who may do what."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from controller.api.dependencies import READS, ServicesDep, requires
from controller.domain.operators import ROLES, TTL, Operator, Scope
from controller.store.operator_tokens import all_operator_tokens
from controller.use_cases.create_operator_token import create_operator_token
from controller.use_cases.revoke_operator_token import revoke_operator_token

router = APIRouter(prefix="/api/v1/operators", tags=["operators"])
Admin = Annotated[Operator, Depends(requires(Scope.OPERATORS_ADMIN))]


class NewOperatorToken(BaseModel):
    """A token to be made for a person: a role, single scopes, or both."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(examples=["alice@example.org"], max_length=64)
    role: str | None = Field(None, examples=["approver"])
    scopes: list[str] = Field(default_factory=list, max_length=64)
    ttl_days: float = Field(TTL / timedelta(days=1), gt=0, le=100_000, description="How long it is good, in days.")
    network: str | None = Field(None, max_length=64, description="Where it may be shown from, in CIDR notation.")


@router.post("", status_code=201)
def post_operator(
    wanted: NewOperatorToken, services: ServicesDep, operator: Admin, response: Response
) -> dict[str, Any]:
    """Create a token; its text is in this answer and nowhere else."""
    response.headers["Cache-Control"] = "no-store"
    made = create_operator_token(
        services.database,
        wanted.name,
        maker=operator,
        role=wanted.role,
        scopes=wanted.scopes,
        ttl=timedelta(days=wanted.ttl_days),
        network=wanted.network,
        now=services.clock(),
    )
    shown = {"id": made.id, "token": made.text, "name": made.name, "scopes": made.scopes}
    return {**shown, "network": made.network, "expires_at": made.expires_at}


@router.get("", dependencies=[Depends(requires(Scope.OPERATORS_ADMIN))])
def list_operators(services: ServicesDep) -> dict[str, Any]:
    """List the tokens, without their secrets, revoked and expired ones included."""
    with services.database.reading() as tx:
        return {"items": all_operator_tokens(tx)}


@router.get("/roles", dependencies=[READS])
def list_roles() -> dict[str, Any]:
    """List the roles with the scopes that each holds."""
    return {"items": [{"role": role, "scopes": sorted(scopes)} for role, scopes in ROLES.items()]}


@router.post("/{token_id}:revoke", status_code=204)
def post_revoke(token_id: str, services: ServicesDep, operator: Admin) -> Response:
    """Revoke a token; it lets nobody in from now on."""
    revoke_operator_token(services.database, token_id, actor=operator.name, now=services.clock())
    return Response(status_code=204)
