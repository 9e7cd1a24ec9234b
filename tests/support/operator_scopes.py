"""Which scope each route of the operator API asks for. A new route is a new line here."""

import importlib
import pkgutil

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

import controller.api
from controller.api.dependencies import ScopeCheck
from controller.domain.operators import Scope

S = Scope
PREFIX = "/api/v1"
_VERSION = "/models/{name}/versions/{number}"

SCOPES_OF_ROUTE: dict[tuple[str, str], set[S]] = {
    ("POST", "/uploads"): {S.MODELS_WRITE},
    ("POST", "/models"): {S.MODELS_WRITE},
    ("GET", "/models"): {S.READ},
    ("GET", "/models/{name}"): {S.READ},
    ("POST", "/models/{name}/versions"): {S.MODELS_WRITE},
    ("GET", "/models/{name}/versions"): {S.READ},
    ("GET", _VERSION): {S.READ},
    ("GET", f"{_VERSION}/report"): {S.READ},
    ("POST", f"{_VERSION}/variants"): {S.MODELS_WRITE},
    ("POST", f"{_VERSION}/variants/{{variant}}/cancel"): {S.MODELS_WRITE},
    ("GET", f"{_VERSION}/variants/{{variant}}/logs"): {S.READ},
    ("POST", f"{_VERSION}/searches"): {S.MODELS_WRITE},
    ("GET", f"{_VERSION}/searches"): {S.READ},
    ("GET", f"{_VERSION}/lineage"): {S.READ},
    ("GET", f"{_VERSION}/variants/{{variant}}/model-signing"): {S.READ},
    ("POST", f"{_VERSION}/release"): {S.RELEASES_PROPOSE},
    ("POST", f"{_VERSION}:withdraw"): {S.RELEASES_PROPOSE},
    ("POST", "/models/{name}:renew-release"): {S.RELEASES_PROPOSE},
    ("GET", "/releases"): {S.READ},
    ("GET", "/releases/{release_id}"): {S.READ},
    ("POST", "/releases/{release_id}/signatures"): {S.RELEASES_PROPOSE},
    ("POST", "/releases/{release_id}:cancel"): {S.RELEASES_PROPOSE},
    ("GET", "/searches/{search_id}"): {S.READ},
    ("POST", "/searches/{search_id}/cancel"): {S.MODELS_WRITE},
    ("GET", "/schemas/recipe.json"): {S.READ},
    ("GET", "/recipes"): {S.READ},
    ("GET", "/recipes/{name}"): {S.READ},
    ("POST", "/recipes"): {S.MODELS_WRITE},
    ("GET", "/devices"): {S.READ},
    ("GET", "/devices/{name_or_id}"): {S.READ},
    ("GET", "/devices/{name_or_id}/explanation"): {S.READ},
    ("POST", "/devices/{name_or_id}:approve"): {S.DEVICES_ENROL},
    ("POST", "/devices/{name_or_id}:revoke"): {S.DEVICES_REVOKE},
    ("POST", "/devices/{name_or_id}:clear-suspicion"): {S.DEVICES_REVOKE},
    ("POST", "/groups"): {S.ROLLOUTS_PROPOSE},
    ("GET", "/groups"): {S.READ},
    ("GET", "/groups/{name}"): {S.READ},
    ("POST", "/tokens"): {S.DEVICES_ENROL},
    ("GET", "/tokens"): {S.READ},
    ("PUT", "/pins"): {S.ROLLOUTS_PROPOSE},
    ("GET", "/pins"): {S.READ},
    ("DELETE", "/pins/{pin_id}"): {S.ROLLOUTS_PROPOSE},
    ("POST", "/rollouts"): {S.ROLLOUTS_PROPOSE},
    ("GET", "/rollouts"): {S.READ},
    ("GET", "/rollouts/{rollout_id}"): {S.READ},
    ("GET", "/rollouts/{rollout_id}/manifests"): {S.READ},
    ("POST", "/rollouts/{rollout_id}:approve"): {S.ROLLOUTS_APPROVE},
    ("POST", "/rollouts/{rollout_id}:pause"): {S.ROLLOUTS_PROPOSE, S.ROLLOUTS_APPROVE},
    ("POST", "/rollouts/{rollout_id}:resume"): {S.ROLLOUTS_PROPOSE},
    ("POST", "/rollouts/{rollout_id}:abort"): {S.ROLLOUTS_PROPOSE, S.ROLLOUTS_APPROVE},
    ("PUT", "/models/{name}/variant-rules/{variant}"): {S.ROLLOUTS_PROPOSE},
    ("GET", "/models/{name}/variant-rules"): {S.READ},
    ("DELETE", "/models/{name}/variant-rules/{variant}"): {S.ROLLOUTS_PROPOSE},
    ("GET", "/overview"): {S.READ},
    ("GET", "/trust"): {S.READ},
    ("GET", "/events"): {S.READ},
    ("POST", "/operators"): {S.OPERATORS_ADMIN},
    ("GET", "/operators"): {S.OPERATORS_ADMIN},
    ("GET", "/operators/roles"): {S.READ},
    ("POST", "/operators/{token_id}:revoke"): {S.OPERATORS_ADMIN},
    ("GET", "/audit"): {S.AUDIT_READ},
    ("GET", "/audit/verification"): {S.AUDIT_READ},
}
"""Method and path below PREFIX; any one of the scopes is enough."""


def operator_routes() -> dict[tuple[str, str], list[set[S]]]:
    """Return what every route below PREFIX really asks for: a set for each check, any scope of which passes it."""
    found: dict[tuple[str, str], list[set[S]]] = {}
    for module in pkgutil.iter_modules(controller.api.__path__, "controller.api."):
        router = getattr(importlib.import_module(module.name), "router", None)
        for route in router.routes if isinstance(router, APIRouter) else ():
            if isinstance(route, APIRoute) and route.path.startswith(PREFIX):
                for method in route.methods or ():
                    found[method, route.path.removeprefix(PREFIX)] = _checks(route.dependant)
    return found


def _checks(dependant: Dependant) -> list[set[S]]:
    own = [set(dependant.call.scopes)] if isinstance(dependant.call, ScopeCheck) else []
    return own + [check for inner in dependant.dependencies for check in _checks(inner)]
