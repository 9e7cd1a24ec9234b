"""Operator routes for rules on variants: which ones a group must run, and which ones it must not."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from controller.api.dependencies import READS, RolloutsProposer, ServicesDep
from controller.domain.variant_rules import RuleKind
from controller.store.catalog import model_named
from controller.store.views import variant_rules as views
from controller.use_cases.set_variant_rule import release_variant_rule, set_variant_rule

router = APIRouter(prefix="/api/v1/models/{name}/variant-rules", tags=["rollouts"])


class NewVariantRule(BaseModel):
    """A rule to be set about one variant: the group must run it where a version has it, or must never run it."""

    model_config = ConfigDict(extra="forbid")
    kind: RuleKind
    group: str = "all"


@router.put("/{variant}")
def put_variant_rule(
    name: str, variant: str, wanted: NewVariantRule, services: ServicesDep, operator: RolloutsProposer
) -> dict[str, Any]:
    """Pin or forbid a variant for a group; a rule about the same variant and group is replaced."""
    now, actor = services.clock(), operator.name
    rule_id = set_variant_rule(services.database, name, variant, wanted.group, wanted.kind, actor=actor, now=now)
    return next(rule for rule in list_variant_rules(name, services)["items"] if rule["id"] == rule_id)


@router.get("", dependencies=[READS])
def list_variant_rules(name: str, services: ServicesDep) -> dict[str, Any]:
    """List a model's rules, each with the number of versions that have the variant."""
    with services.database.reading() as tx:
        return {"items": views.variant_rules(tx, model_named(tx, name))}


@router.delete("/{variant}", status_code=204)
def remove_variant_rule(
    name: str, variant: str, services: ServicesDep, operator: RolloutsProposer, group: str = "all"
) -> Response:
    """Take a rule back; what devices run is chosen without it from now on."""
    release_variant_rule(services.database, name, variant, group, actor=operator.name, now=services.clock())
    return Response(status_code=204)
