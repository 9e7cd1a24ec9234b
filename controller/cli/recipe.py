"""`edgefleet recipe`: how variants are made; those that are built in, and one's own in YAML."""

from typing import Any

import yaml
from cyclopts import App
from cyclopts.types import ExistingFile

from controller.cli.client import Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, print_json, screen, show_list, show_one

app = App(name="recipe")

COLUMNS = (
    field("RECIPE", "name"),
    field("VERSION", "version", "right"),
    Column("STEPS", lambda recipe: " > ".join(use["step"] for use in recipe["steps"]) or "none"),
    Column("INPUTS", lambda recipe: "needed" if recipe["calibrates"] else None),
    Column("FROM", lambda recipe: "built in" if recipe["built_in"] else "operator"),
    field("DESCRIPTION", "description"),
)


@app.command(name="list")
def list_recipes(*, options: Options = DEFAULTS) -> None:
    """List the newest version of every recipe."""
    with options.client() as client:
        show_list(client.items("/recipes"), COLUMNS, options.output, empty="No recipes.")


@app.command
def get(name: str, /, *, options: Options = DEFAULTS) -> None:
    """Show a recipe as YAML, in the form that `recipe create` takes.

    Parameters
    ----------
    name
        Name of the recipe.
    """
    with options.client() as client:
        recipe = client.get(path_of("recipes", name))
    if options.output == "json":
        print_json(recipe)
        return
    shown = {key: recipe[key] for key in ("name", "version", "description", "steps")}
    screen().out(yaml.safe_dump(shown, sort_keys=False), end="")


@app.command
def create(file: ExistingFile, /, *, options: Options = DEFAULTS) -> None:
    """Add a recipe from a YAML file, or the next version of one's own.

    Parameters
    ----------
    file
        A mapping with `name`, `description` and `steps`; `edgefleet recipe get NAME` shows the form, and
        `edgefleet recipe schema` gives editors its schema.
    """
    with options.client() as client:
        recipe = client.post("/recipes", _read(file.read_text(), str(file)))
    show_one(recipe, COLUMNS, options.output)


@app.command
def schema(*, options: Options = DEFAULTS) -> None:
    """Print the JSON schema of recipes."""
    with options.client() as client:
        print_json(client.get("/schemas/recipe.json"))


def _read(text: str, name: str) -> Json:
    try:
        document: Any = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise CommandFailed(f"{name} is not YAML: {' '.join(str(error).split())}", ExitCode.INVALID) from error
    if not isinstance(document, dict):
        raise CommandFailed(f"{name} holds no mapping; expected name, description and steps", ExitCode.INVALID)
    document.pop("version", None)  # the controller numbers them
    return document
