"""What routes are given: the services, and the operator who asks, once their token has the scope that is needed."""

from collections.abc import Callable
from functools import cache
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from controller.api.trusted_proxies import trusted_proxies
from controller.domain.operators import Operator, Scope, missing_scope
from controller.use_cases.authenticate_operator import authenticate_operator
from controller.wiring import Services

_bearer = HTTPBearer(
    auto_error=False,
    description="An operator's token (`edgefleet operator create`), or the installation's own, which is kept in "
    "`operator.token` of the state folder.",
)


def services_of(request: Request) -> Services:
    """Return the services that the application was made with."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


def operator_who_shows(request: Request, token: str) -> Operator:
    """Return who shows the token with this request; NotAllowed(`operator_token_needed`) for nobody."""
    services = services_of(request)
    return authenticate_operator(
        services.database,
        token,
        bootstrap=services.operator_token,
        address=client_address(request),
        now=services.clock(),
    )


def client_address(request: Request) -> str | None:
    """Return the address that the request comes from: the peer's, or what a trusted proxy says."""
    return trusted_proxies(services_of(request).settings.trusted_proxies).client_address(request.scope)


def authenticated(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Operator:
    """Return the operator who asks, whatever they may do."""
    return operator_who_shows(request, credentials.credentials if credentials else "")


class ScopeCheck:
    """A dependency that yields the operator who asks, if their token has any of the scopes."""

    def __init__(self, scopes: frozenset[Scope]) -> None:
        """Take the scopes, each of which is enough."""
        self.scopes = scopes

    def __call__(self, operator: Annotated[Operator, Depends(authenticated)]) -> Operator:
        """Return the operator; Forbidden(`E_SCOPE`) names what is missing and who grants it."""
        if not operator.scopes & self.scopes:
            raise missing_scope(operator, self.scopes)
        return operator


@cache
def requires(*scopes: Scope) -> Callable[..., Operator]:
    """Return the dependency that lets pass who has any of the scopes, and yields the Operator."""
    return ScopeCheck(frozenset(scopes))


ModelsWriter = Annotated[Operator, Depends(requires(Scope.MODELS_WRITE))]
RolloutsProposer = Annotated[Operator, Depends(requires(Scope.ROLLOUTS_PROPOSE))]
READS = Depends(requires(Scope.READ))
"""For routes that need not know who reads."""
