"""`edgefleet operator`: tokens of persons, and what each may do."""

from typing import Annotated

from cyclopts import App, Parameter

from controller.cli.client import path_of
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, moment, notices, print_json, show_list

app = App(name="operator")

COLUMNS = (
    field("NAME", "name"),
    Column("SCOPES", lambda token: ", ".join(token["scopes"])),
    field("NETWORK", "network"),
    field("MADE BY", "created_by"),
    moment("LAST USED", "last_used_at"),
    moment("EXPIRES", "expires_at"),
    moment("REVOKED", "revoked_at"),
    field("ID", "id"),
)
ROLE_COLUMNS = (field("ROLE", "role"), Column("SCOPES", lambda role: ", ".join(role["scopes"])))


@app.command
def create(
    name: str,
    /,
    *,
    role: str | None = None,
    scope: Annotated[list[str] | None, Parameter(negative="")] = None,
    ttl_days: float = 90.0,
    network: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Make a token for a person and print it; it cannot be shown again.

    Parameters
    ----------
    name
        The person, as history and audit log shall name them.
    role
        What they may do: `edgefleet operator roles` lists the roles.
    scope
        A single thing that they may do; give it once per scope, with a role or instead of one.
    ttl_days
        How long it is good, in days; at most 365.
    network
        The only network that it may be shown from, such as 10.1.0.0/16.
    """
    body = {"name": name, "role": role, "scopes": scope or [], "ttl_days": ttl_days, "network": network}
    with options.client() as client:
        token = client.post("/operators", body)
    if options.output == "json":
        print_json(token)
        return
    print(token["token"])
    may = ", ".join(token["scopes"])
    notices().print(f"{name} may {may} until {token['expires_at']}; the token is not shown again", soft_wrap=True)


@app.command(name="list")
def list_operators(*, options: Options = DEFAULTS) -> None:
    """List the tokens, without their text."""
    with options.client() as client:
        empty = "No tokens but the installation's own. Make one: edgefleet operator create NAME --role ROLE"
        show_list(client.items("/operators"), COLUMNS, options.output, empty=empty)


@app.command
def revoke(token: str, /, *, options: Options = DEFAULTS) -> None:
    """Revoke a token by its id, which is also the middle part of its text."""
    with options.client() as client:
        client.post(f"{path_of('operators', token)}:revoke")
    notices().print(f"the token {token} lets nobody in any more")


@app.command
def roles(*, options: Options = DEFAULTS) -> None:
    """List the roles and the scopes that each holds."""
    with options.client() as client:
        show_list(client.items("/operators/roles"), ROLE_COLUMNS, options.output, empty="No roles.")
