"""What routes are given: the services, and the proof that an operator is asking."""

import hmac
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from controller.domain.errors import NotAllowed
from controller.wiring import Services

_bearer = HTTPBearer(
    auto_error=False, description="The operator's token, kept in `operator.token` of the state folder."
)


def services_of(request: Request) -> Services:
    """Return the services that the application was made with."""
    services: Services = request.app.state.services
    return services


ServicesDep = Annotated[Services, Depends(services_of)]


def operator_only(
    services: ServicesDep, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> None:
    """Let nobody pass who does not show the operator's token."""
    shown = credentials.credentials if credentials else ""
    if not hmac.compare_digest(shown.encode(), services.operator_token.encode()):
        raise NotAllowed(
            "this needs the header `Authorization: Bearer TOKEN` with the operator's token",
            code="operator_token_needed",
        )
