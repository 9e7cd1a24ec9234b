"""Nothing of the operator API is open to whoever has any token: each route asks for one scope, by one table."""

from controller.domain.operators import ROLES, Scope
from tests.support.operator_scopes import SCOPES_OF_ROUTE, operator_routes


def test_every_route_asks_for_just_the_scope_that_the_table_says() -> None:
    assert operator_routes() == {route: [scopes] for route, scopes in SCOPES_OF_ROUTE.items()}


def test_what_is_written_never_takes_the_scope_for_reading() -> None:
    writes = {route for route, scopes in SCOPES_OF_ROUTE.items() if Scope.READ in scopes and route[0] != "GET"}
    assert writes == set()


def test_every_scope_is_held_by_a_role_besides_the_admin_or_is_the_admins_on_purpose() -> None:
    held = {scope for role, scopes in ROLES.items() if role != "admin" for scope in scopes}
    assert set(Scope) - held == {Scope.KEYS_ADMIN, Scope.OPERATORS_ADMIN}
