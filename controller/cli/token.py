"""`edgefleet token`: enrolment tokens, which turn a machine into a device."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, labels, moment, notices, print_json, show_list

app = App(name="token")


def _whom(token: dict[str, Any]) -> str:
    words = [token["device_name"] or "", f"serial {token['serial']}" if token["serial"] else ""]
    words.append("to be approved" if token["needs_approval"] else "")
    return ", ".join(filter(None, words))


COLUMNS = (
    field("ID", "id"),
    field("USES LEFT", "uses_left", "right"),
    Column("FOR", _whom),
    Column("LABELS", lambda token: labels(token.get("labels"))),
    moment("EXPIRES", "expires_at"),
)


@app.command
def create(
    *,
    label: Annotated[list[str] | None, Parameter(negative="")] = None,
    uses: int = 1,
    ttl_s: int = 86_400,
    needs_approval: Annotated[bool, Parameter(negative="")] = False,
    serial: str | None = None,
    name: str | None = None,
    options: Options = DEFAULTS,
) -> None:
    """Make a token and print it; it cannot be shown again.

    Parameters
    ----------
    label
        `key=value` that every device enrolled with it gets; give it once per label.
    uses
        How many devices may enrol with it.
    ttl_s
        How long it is valid, in seconds.
    needs_approval
        Let its devices wait until somebody approves them: `edgefleet device approve NAME`.
    serial
        Serial number of the one machine that may use it, which is thereby registered before its first start.
    name
        Name of that machine's device, whatever the machine calls itself; needs --serial.
    """
    terms = {"needs_approval": needs_approval, "serial": serial, "name": name}
    body = {"labels": _labels(label or []), "uses": uses, "ttl_s": ttl_s}
    body |= {term: value for term, value in terms.items() if value}
    with options.client() as client:
        token = client.post("/tokens", body)
    if options.output == "json":
        print_json(token)
        return
    print(token["token"])
    notices().print(f"valid for {token['uses_left']} devices until {token['expires_at']}; it is not shown again")


@app.command(name="list")
def list_tokens(*, options: Options = DEFAULTS) -> None:
    """List the tokens that can still be used, without their text."""
    with options.client() as client:
        empty = "No tokens. Make one: edgefleet token create"
        show_list(client.items("/tokens"), COLUMNS, options.output, empty=empty)


def _labels(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise CommandFailed(f"the label {pair!r} is not key=value", ExitCode.USAGE)
    return dict(pair.split("=", 1) for pair in pairs)
