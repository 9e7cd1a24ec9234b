"""`edgefleet audit`: who decided what, and the proof that nobody has rewritten it since."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from controller.cli.client import Client, Json
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, moment, print_json, show_list
from controller.domain.audit_chain import Anchor, AuditEntry, Break, Unbroken, check_chain, read_entry

app = App(name="audit")
PAGE_SIZE = 1000

COLUMNS = (
    field("NO", "seq", "right"),
    moment("WHEN", "at"),
    field("WHO", "actor"),
    field("DID", "action"),
    field("TO", "subject"),
    Column("DETAIL", lambda entry: ", ".join(f"{key}={value}" for key, value in sorted(entry["detail"].items()))),
)


@app.command(name="list")
def list_entries(
    *,
    last: Annotated[int, Parameter(name=["--last", "-n"])] = 50,
    after: int | None = None,
    options: Options = DEFAULTS,
) -> None:
    """List the newest entries.

    Parameters
    ----------
    last
        How many.
    after
        List all entries behind this number instead.
    """
    with options.client() as client:
        if after is None:
            page = client.get("/audit", last=last, page_size=min(last, PAGE_SIZE))
        else:
            page = {"items": list(_entries(client, after))}
    show_list(page, COLUMNS, options.output, empty="Nobody has decided anything yet.")


@app.command
def export(file: Path | None = None, /, *, options: Options = DEFAULTS) -> None:
    """Write every entry as a line of JSON, to be kept elsewhere; `audit verify FILE` compares the log with it later.

    Parameters
    ----------
    file
        Where to; standard output unless given.
    """
    with options.client() as client:
        lines = (json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n" for entry in _entries(client, 0))
        if file is None:
            sys.stdout.writelines(lines)
            return
        try:
            with file.open("w") as target:
                target.writelines(lines)
        except OSError as error:
            raise CommandFailed(f"{file} cannot be written: {error.strerror}") from error


@app.command
def verify(file: Path | None = None, /, *, options: Options = DEFAULTS) -> int:
    """Recompute the chain of all entries here, and compare it with the heads in the signer's journal.

    Exit code 3 when it does not hold: an entry was changed, taken out or put in, or entries are missing at the end.

    Parameters
    ----------
    file
        An earlier export: the log must begin with just these entries.
    """
    kept = [] if file is None else _kept(file)
    with options.client() as client:
        # Asked first: what is anchored later may lie behind the entries that are read.
        told = client.get("/audit/verification")
        entries = _entries(client, 0)
        anchors = [*kept, *(Anchor(**anchor) for anchor in told["anchors"])]
        found = _checked(entries, anchors)
    if isinstance(found, Unbroken) and told["state"] != "unbroken":
        found = Break(**told["break"])
    if options.output == "json":
        print_json({"state": _state(found), "anchors": len(anchors), **vars(found)})
    else:
        print(_words(found, anchors))
    return ExitCode.OK if isinstance(found, Unbroken) else ExitCode.NOT_COMPLETED


def _entries(client: Client, after: int) -> Iterator[Json]:
    following: int | None = after
    while following is not None:
        page = client.get("/audit", after=following, page_size=PAGE_SIZE)
        yield from page["items"]
        following = page["next_after"]


def _checked(documents: Iterable[Json], anchors: Iterable[Anchor] = ()) -> Unbroken | Break:
    return check_chain(map(_read, documents), anchors)


def _read(document: Json) -> tuple[AuditEntry, str]:
    try:
        return read_entry(document)
    except (KeyError, TypeError, ValueError) as error:
        raise CommandFailed(f"this is no entry of an audit log: {document!r:.120}", ExitCode.INVALID) from error


def _kept(file: Path) -> list[Anchor]:
    """Return the head of an export as an anchor; CommandFailed for a file that does not hold by itself."""
    try:
        found = _checked(json.loads(line) for line in file.read_text().splitlines())
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CommandFailed(f"{file} is not an export of the audit log: {error}", ExitCode.INVALID) from error
    if isinstance(found, Break):
        raise CommandFailed(f"{file} itself does not hold: {found.reason}", ExitCode.NOT_COMPLETED)
    return [Anchor(found.seq, found.sha256)] if found.seq else []


def _state(found: Unbroken | Break) -> str:
    return "unbroken" if isinstance(found, Unbroken) else "broken"


def _words(found: Unbroken | Break, anchors: list[Anchor]) -> str:
    if isinstance(found, Break):
        return f"broken at entry {found.seq}: {found.reason}"
    furthest = max((anchor.seq for anchor in anchors), default=0)
    kept = f"anchored up to entry {furthest}" if furthest else "not anchored anywhere yet"
    return f"unbroken: {found.seq} entries, {kept}, head {found.sha256}"
