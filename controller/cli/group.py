"""`edgefleet group`: named filters and static lists of devices."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from controller.cli.client import path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, show_list, show_one

app = App(name="group")


def _rule(group: dict[str, Any]) -> str:
    if group.get("members") is not None:
        return "static list"
    return group.get("selector") or "every device"


COLUMNS = (field("NAME", "name"), Column("SELECTOR", _rule), field("DEVICES", "devices", "right"))


@app.command
def create(
    name: str,
    /,
    *,
    selector: str | None = None,
    member: Annotated[list[str] | None, Parameter(negative="")] = None,
    options: Options = DEFAULTS,
) -> None:
    """Create a group from a selector or from a list of devices.

    Parameters
    ----------
    name
        Name of the group.
    selector
        Terms that must all hold, such as `site=lyon,profile!=camera`; devices that enrol later belong too.
    member
        A device's name; give it once per device.
    """
    if (selector is None) == (not member):
        raise CommandFailed("give either --selector or --member, not both", ExitCode.USAGE)
    rule: dict[str, Any] = {"members": member} if member else {"selector": selector}
    with options.client() as client:
        show_one(client.post("/groups", {"name": name, **rule}), COLUMNS, options.output)


@app.command(name="list")
def list_groups(*, options: Options = DEFAULTS) -> None:
    """List the groups; `all` always exists."""
    with options.client() as client:
        empty = "No groups. Create one: edgefleet group create NAME --selector site=lyon"
        show_list(client.items("/groups"), COLUMNS, options.output, empty=empty)


@app.command
def get(name: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one group."""
    with options.client() as client:
        show_one(client.get(path_of("groups", name)), COLUMNS, options.output)
