"""`edgefleet device`: enrolled machines, what they run and why, and who belongs to the fleet."""

from collections.abc import Iterator
from typing import Any

from cyclopts import App

from controller.cli.client import path_of
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, ago, field, labels, moment, print_json, screen, show_list, show_one

app = App(name="device")


def _slots(device: dict[str, Any]) -> str | None:
    slots = device.get("slots") or []
    words = (f"{slot['slot']} {slot['version'] or '-'} {slot['variant'] or ''} {slot['state']}" for slot in slots)
    return "; ".join(" ".join(word.split()) for word in words) or None


def _profile(device: dict[str, Any]) -> object:
    profile = device.get("profile")
    return profile.get("name") if isinstance(profile, dict) else profile


def _standing(device: dict[str, Any]) -> str:
    return "suspected" if device.get("suspicion") and device["state"] == "approved" else device["state"]


COLUMNS = (
    field("NAME", "name"),
    Column("STATE", _standing),
    Column("PROFILE", _profile),
    Column("SLOTS", _slots),
    Column("LABELS", lambda device: labels(device.get("labels"))),
    moment("SEEN", "last_seen"),
    field("ID", "id"),
)


@app.command(name="list")
def list_devices(*, group: str | None = None, options: Options = DEFAULTS) -> None:
    """List the devices.

    Parameters
    ----------
    group
        Only the devices of this group.
    """
    with options.client() as client:
        empty = "No devices. Enrol one: edgefleet token create, then edgefleet-agent run on the machine"
        show_list(client.items("/devices", group=group), COLUMNS, options.output, empty=empty)


@app.command
def get(device: str, /, *, options: Options = DEFAULTS) -> None:
    """Show one device, by name or id."""
    with options.client() as client:
        show_one(client.get(path_of("devices", device)), COLUMNS, options.output)


@app.command
def explain(device: str, /, *, options: Options = DEFAULTS) -> None:
    """Say why a device runs what it runs, model by model."""
    with options.client() as client:
        document = client.get(path_of("devices", device, "explanation"))
    if options.output == "json":
        print_json(document)
        return
    console = screen()
    if document["state"] != "approved":
        console.print(f"This device is {document['state']}: it is given nothing and counts in no group.")
    elif not document["models"]:
        console.print("Nothing concerns this device: no pin and no rollout of a group that it belongs to.")
    for model, words in document["models"].items():
        console.print(model, style="bold")
        for word in (*words, *_consequences(document, model)):
            console.print(f"  {word}", markup=False)
    for target in document["refused"]:
        console.print(f"It has refused {target} for good: its own checks failed there.", markup=False)
    if document["suspicion"]:
        console.print(f"Its reports are refused: {document['suspicion']}.", markup=False)
        console.print("Revoke it and enrol the right machine anew, or clear the suspicion.")
    console.print(f"It last polled {ago(document['last_seen']) or 'never'}.")


@app.command
def approve(device: str, /, *, options: Options = DEFAULTS) -> None:
    """Let in a device that waits, by name or id."""
    _decide(device, "approve", options)


@app.command
def revoke(device: str, /, *, options: Options = DEFAULTS) -> None:
    """Turn a device away for good: its key and its sessions are worth nothing any more, at once.

    The machine comes back as another device, with a new key and a new token.
    """
    _decide(device, "revoke", options)


@app.command(name="clear-suspicion")
def clear_suspicion(device: str, /, *, options: Options = DEFAULTS) -> None:
    """Take the reports of a device again that seemed to be two machines under one key."""
    _decide(device, "clear-suspicion", options)


def _decide(device: str, verb: str, options: Options) -> None:
    with options.client() as client:
        show_one(client.post(f"{path_of('devices', device)}:{verb}"), COLUMNS, options.output)


def _consequences(document: dict[str, Any], model: str) -> Iterator[str]:
    slot = document["slots"].get(model)
    if slot:
        yield f"so it shall run {slot['target'] or 'nothing'}"
    reported = [seen for seen in document["observed"] if seen["slot"] == model]
    for seen in reported:
        yield f"it last reported: version {seen['version'] or 'none'}, {seen['state']}"
    if slot and not reported:
        yield "it has reported nothing of it yet"
