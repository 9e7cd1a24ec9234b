"""`edgefleet model`: named capabilities."""

from cyclopts import App

from controller.cli.client import path_of
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, moment, show_list, show_one

app = App(name="model")

COLUMNS = (
    field("NAME", "name"),
    Column("SEALED", lambda model: "yes" if model.get("sealed") else None),
    field("NOTES", "notes"),
    moment("CREATED", "created_at"),
)


@app.command
def create(name: str, /, *, notes: str = "", sealed: bool = False, options: Options = DEFAULTS) -> None:
    """Create a model; versions are uploaded to it.

    Parameters
    ----------
    name
        Lower-case letters, digits, dots, dashes and underscores.
    notes
        What it does, for people.
    sealed
        Let its artifacts travel encrypted, for mirrors and links that must not read them. For good: no later change.
    """
    wanted = {"name": name, "notes": notes} | ({"sealed": True} if sealed else {})
    with options.client() as client:
        show_one(client.post("/models", wanted), COLUMNS, options.output)


@app.command(name="list")
def list_models(*, options: Options = DEFAULTS) -> None:
    """List the models."""
    with options.client() as client:
        empty = "No models yet. Create one: edgefleet model create NAME"
        show_list(client.items("/models"), COLUMNS, options.output, empty=empty)


@app.command
def get(name: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one model."""
    with options.client() as client:
        show_one(client.get(path_of("models", name)), COLUMNS, options.output)
