"""`edgefleet pin`: which version a group runs, also on devices that enrol tomorrow."""

from typing import Annotated

from cyclopts import App, Parameter

from controller.cli.client import path_of
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, moment, notices, show_list, show_one

app = App(name="pin")

COLUMNS = (
    field("MODEL", "model"),
    field("VERSION", "version", "right"),
    field("GROUP", "group"),
    Column("FOR", lambda pin: "the channel dev" if pin.get("dev_only") else "every device"),
    moment("DECIDED", "decided_at"),
    field("ID", "id"),
)


@app.command(name="set")
def set_pin(
    model: str,
    version: int,
    /,
    *,
    group: Annotated[str, Parameter(name=["--group", "-g"])],
    soak: float | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Pin a version of a model on a group, at once and without stages. A rollout is the careful way.

    Where released versions need two persons, it is the only way for them; a pin is for the channel dev there.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    group
        The group; `all` is every device.
    soak
        Seconds that the version must stay healthy on each device; 60 unless set.
    """
    asked = {"model": model, "version": version, "group": group}
    if soak is not None:
        asked["soak_s"] = soak
    with options.client() as client:
        pin = client.put("/pins", asked)
        show_one(pin, COLUMNS, options.output)


@app.command(name="list")
def list_pins(*, options: Options = DEFAULTS) -> None:
    """List the pins."""
    with options.client() as client:
        empty = "No pins. Set one: edgefleet pin set MODEL VERSION --group all"
        show_list(client.items("/pins"), COLUMNS, options.output, empty=empty)


@app.command
def delete(pin: str, /, *, options: Options = DEFAULTS) -> None:
    """Remove a pin by its id. Devices keep what they run until something else is decided."""
    with options.client() as client:
        client.delete(path_of("pins", pin))
    notices().print(f"pin {pin} is removed")
