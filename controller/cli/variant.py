"""`edgefleet variant`: variants of a version are made, watched and cancelled; of a model, pinned and forbidden."""

from typing import Annotated

from cyclopts import App, Parameter

from controller.cli.client import path_of
from controller.cli.errors import ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import field, moment, notices, print_json, screen, show_list, show_one
from controller.cli.version import show_version, until_final

app = App(name="variant")

Group = Annotated[str, Parameter(name=["--group", "-g"])]
COLUMNS = (
    field("MODEL", "model"),
    field("VARIANT", "variant"),
    field("RULE", "kind"),
    field("GROUP", "group"),
    field("VERSIONS", "versions", "right"),
    moment("DECIDED", "decided_at"),
)


@app.command
def make(
    model: str,
    version: int,
    /,
    *recipes: str,
    wait: Annotated[bool, Parameter(negative="")] = False,
    timeout: float = 600.0,
    options: Options = DEFAULTS,
) -> int:
    """Have recipes followed for a version that exists: new ones, or another try of what ended badly.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    recipes
        Names of recipes; `edgefleet recipe list` shows them.
    wait
        Wait until every variant is published, refused or failed; exit code 3 if one of these is not published.
    timeout
        Give up waiting after this many seconds (exit code 8).
    """
    with options.client() as client:
        path = path_of("models", model, "versions", version, "variants")
        made = client.post(path, {"recipes": list(recipes)})
        if wait:
            made = until_final(client, made, timeout)
    show_version(made, options.output)
    asked = [variant for variant in made["variants"] if variant["recipe"] in recipes]
    failed = wait and any(variant["state"] != "published" for variant in asked)
    return ExitCode.NOT_COMPLETED if failed else ExitCode.OK


@app.command
def cancel(model: str, version: int, variant: str, /, *, options: Options = DEFAULTS) -> None:
    """Cancel the work on a variant. What is finished stays remembered: `variant make` goes on from there.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    variant
        Name of the variant.
    """
    with options.client() as client:
        show_version(client.post(f"{_of(model, version, variant)}/cancel"), options.output)


@app.command
def log(model: str, version: int, variant: str, /, *, options: Options = DEFAULTS) -> None:
    """Show what the jobs of a variant did and said, oldest first.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    variant
        Name of the variant.
    """
    with options.client() as client:
        logs = client.items(f"{_of(model, version, variant)}/logs")
    if options.output == "json":
        print_json(logs)
        return
    for run in logs["items"]:
        screen().out(f"{run['job']}, attempt {run['attempt']}: {run['outcome']} after {run['seconds']:.1f} s")
        for line in run["text"].splitlines():
            screen().out(f"  {line}")


@app.command
def pin(model: str, variant: str, /, *, group: Group, options: Options = DEFAULTS) -> None:
    """Pin a variant: of every version that has it, the group's devices run it or nothing.

    Without pins each device gets the best variant that fits it. `edgefleet device explain` says which, and why.

    Parameters
    ----------
    model
        Name of the model.
    variant
        Name of the variant, which is that of its recipe.
    group
        The group; `all` is every device.
    """
    _set(model, variant, group, "pin", options)


@app.command
def forbid(model: str, variant: str, /, *, group: Group, options: Options = DEFAULTS) -> None:
    """Forbid a variant: the group's devices get the next best one. It beats a pin.

    Parameters
    ----------
    model
        Name of the model.
    variant
        Name of the variant; it need not exist yet.
    group
        The group; `all` is every device.
    """
    _set(model, variant, group, "forbid", options)


@app.command
def release(model: str, variant: str, /, *, group: Group, options: Options = DEFAULTS) -> None:
    """Take back what was pinned or forbidden.

    Parameters
    ----------
    model
        Name of the model.
    variant
        Name of the variant.
    group
        The group that the rule was made for.
    """
    with options.client() as client:
        client.delete(path_of("models", model, "variant-rules", variant), group=group)
    notices().print(f"group {group} is free to run variant {variant} of {model} or not")


@app.command(name="list")
def list_rules(model: str, /, *, options: Options = DEFAULTS) -> None:
    """List what is pinned and forbidden for a model; VERSIONS counts those that have the variant published."""
    with options.client() as client:
        empty = (
            f"No rules: devices get the best variant that fits. Set one: edgefleet variant pin {model} int8 --group all"
        )
        show_list(client.items(path_of("models", model, "variant-rules")), COLUMNS, options.output, empty=empty)


def _of(model: str, version: int, variant: str) -> str:
    return path_of("models", model, "versions", version, "variants", variant)


def _set(model: str, variant: str, group: str, kind: str, options: Options) -> None:
    with options.client() as client:
        rule = client.put(path_of("models", model, "variant-rules", variant), {"kind": kind, "group": group})
        show_one(rule, COLUMNS, options.output)
    if not rule["versions"]:
        notices().print(f"no version of {model} has a variant {variant} yet", soft_wrap=True)
