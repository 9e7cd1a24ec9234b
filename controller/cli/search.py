"""`edgefleet search`: searches that were begun with `edgefleet compress`."""

from cyclopts import App

from controller.cli.client import path_of
from controller.cli.compress import show_search
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, show_list

app = App(name="search")

COLUMNS = (
    field("ID", "id"),
    field("STATE", "state"),
    field("CLASS", "profile"),
    field("CHOSEN", "chosen"),
    Column("TRIED", lambda search: len(search["candidates"]), "right"),
    field("EXPLANATION", "explanation"),
)


@app.command(name="list")
def list_searches(model: str, version: int, /, *, options: Options = DEFAULTS) -> None:
    """List the searches of a version, newest first.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    """
    with options.client() as client:
        found = client.items(path_of("models", model, "versions", version, "searches"))
    empty = f"No searches. Begin one: edgefleet compress {model} {version} --budget 'size<=200kB,drop<=1pt'"
    show_list(found, COLUMNS, options.output, empty=empty)


@app.command
def get(search: str, /, *, options: Options = DEFAULTS) -> None:
    """Show a search: its candidates, the Pareto front, and the reason for the choice.

    Parameters
    ----------
    search
        Id of the search.
    """
    with options.client() as client:
        show_search(client.get(path_of("searches", search)), options.output)


@app.command
def cancel(search: str, /, *, options: Options = DEFAULTS) -> None:
    """End a search and the work on its candidates.

    Parameters
    ----------
    search
        Id of the search.
    """
    with options.client() as client:
        show_search(client.post(f"{path_of('searches', search)}/cancel"), options.output)
