"""`edgefleet release`: which versions release keys vouch for, so that devices on the channel `prod` may run them."""

from typing import Annotated, Any

from cyclopts import App, Parameter

from controller.cli.client import Client, Json, path_of
from controller.cli.options import DEFAULTS, Options
from controller.cli.release_desk import DESK_DEFAULTS, DeskOptions, Wanted, check, has_key, sign_open
from controller.cli.render import Column, field, moment, notices, show_list, show_one

app = App(name="release")
Names = Annotated[list[str] | None, Parameter(negative="")]
Flag = Annotated[bool, Parameter(negative="")]


def _signatures(release: Json) -> str:
    found = release["signatures"]
    signed = len(found["signed"])
    return f"{signed} of {found['threshold']}" if found["threshold"] else str(signed)


def _state(release: Json) -> str:
    return "stale: propose it again" if release.get("stale") else str(release["state"])


def _paths(key: str) -> Any:
    return lambda release: "\n".join(_target(target) for target in release["changes"][key]) or None


def _target(target: Any) -> str:
    if isinstance(target, str):
        return target
    terms = [f"{name} {target['custom'][name]}" for name in ("floor", "hw") if name in target["custom"]]
    return " ".join([target["path"], target["sha256"][:12], *terms])


COLUMNS = (
    field("ID", "id"),
    field("KIND", "kind"),
    field("MODEL", "model"),
    field("VERSION", "version", "right"),
    Column("STATE", _state),
    Column("SIGNED", _signatures, "right"),
    field("PROPOSED BY", "proposed_by"),
    moment("PROPOSED", "proposed_at"),
)
DETAILS = (
    *COLUMNS,
    field("ROLE", "role"),
    field("ROLE VERSION", "role_version"),
    field("EXPIRES", "expires"),
    Column("ADDS", _paths("added")),
    Column("CHANGES", _paths("changed")),
    Column("REMOVES", _paths("removed")),
    Column("SIGNED BY", lambda release: "\n".join(release["signatures"]["signed"])),
    Column("MAY SIGN", lambda release: "\n".join(release["signatures"]["may_sign"])),
)


@app.command
def propose(
    model: str,
    version: int,
    /,
    *,
    variant: Names = None,
    floor: int | None = None,
    hardware: Names = None,
    options: Options = DEFAULTS,
) -> None:
    """Propose to release a version: release keys sign the draft, on their holders' machines.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    variant
        A variant to be released; give it once per variant. Every published one unless given.
    floor
        Devices that have seen this release refuse versions of the model below this number, for good.
    hardware
        A device profile that may run it; give it once per profile. All of them unless given.
    """
    with options.client() as client:
        body = {"variants": variant, "floor": floor, "hardware": hardware or []}
        release = client.post(f"{path_of('models', model, 'versions', version)}/release", body)
        show_one(release, DETAILS, options.output)
    _tell_next(release)


@app.command
def sign(
    model: str,
    version: int,
    /,
    *,
    variant: Names = None,
    floor: int | None = None,
    hardware: Names = None,
    key: str | None = None,
    yes: Flag = False,
    desk: DeskOptions = DESK_DEFAULTS,
    options: Options = DEFAULTS,
) -> int:
    """Check a version in every part on this machine, then sign its release; propose it first if nobody has.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    variant
        A variant to be released; give it once per variant. What was proposed, or every published one, unless given.
    floor
        The lowest version that devices may run after this one; it must be what was proposed.
    hardware
        A device profile that may run it; give it once per profile.
    key
        URI of the release key: encfile:, file2:, awskms:, gcpkms:, azurekms:, hv:, hsm:. In an installation with a
        single operator, the key of its state folder unless given.
    yes
        Sign without asking when every check has passed.
    """
    wanted = Wanted("release", model, version, variant, floor, hardware)
    with options.client() as client:
        return sign_open(client, wanted, desk, key=key, yes=yes, output=options.output)


@app.command
def verify(model: str, version: int, /, *, desk: DeskOptions = DESK_DEFAULTS, options: Options = DEFAULTS) -> int:
    """Check a proposed release as `sign` does, without signing; exit code 3 when anything speaks against it.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    """
    with options.client() as client:
        return check(client, Wanted("release", model, version), desk, output=options.output)


@app.command(name="list")
def list_releases(*, options: Options = DEFAULTS) -> None:
    """List releases, newest first."""
    with options.client() as client:
        empty = "No releases. Devices on the channel prod run nothing until there is one: edgefleet release propose"
        show_list(client.items("/releases"), COLUMNS, options.output, empty=empty)


@app.command
def show(release: str, /, *, options: Options = DEFAULTS) -> None:
    """Show a release: what it changes, who has signed and who may."""
    with options.client() as client:
        show_one(client.get(path_of("releases", release)), DETAILS, options.output)


@app.command
def cancel(release: str, /, *, options: Options = DEFAULTS) -> None:
    """Cancel an open proposal; signatures that it has already are for nothing."""
    with options.client() as client:
        show_one(client.post(f"{path_of('releases', release)}:cancel"), DETAILS, options.output)


@app.command
def withdraw(
    model: str,
    version: int,
    /,
    *,
    key: str | None = None,
    yes: Flag = False,
    desk: DeskOptions = DESK_DEFAULTS,
    options: Options = DEFAULTS,
) -> int:
    """Take a version out of the channel prod: devices that run it keep it, and no other gets it.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    key
        URI of the release key, to sign at once. Without one it is only proposed, unless this is an installation with a
        single operator.
    yes
        Sign without asking when every check has passed.
    """
    with options.client() as client:
        return _change(client, Wanted("withdraw", model, version), desk, key, yes=yes, output=options.output)


@app.command
def renew(
    model: str,
    /,
    *,
    key: str | None = None,
    yes: Flag = False,
    desk: DeskOptions = DESK_DEFAULTS,
    options: Options = DEFAULTS,
) -> int:
    """Sign a model's releases again, unchanged, before their signatures expire (90 days).

    Parameters
    ----------
    model
        Name of the model.
    key
        URI of the release key, to sign at once. Without one it is only proposed, unless this is an installation with a
        single operator.
    yes
        Sign without asking when every check has passed.
    """
    with options.client() as client:
        return _change(client, Wanted("renew", model, None), desk, key, yes=yes, output=options.output)


def _change(client: Client, wanted: Wanted, desk: DeskOptions, key: str | None, *, yes: bool, output: str) -> int:
    if has_key(key):
        return sign_open(client, wanted, desk, key=key, yes=yes, output=output)
    release = client.post(wanted.path)
    show_one(release, DETAILS, output)
    _tell_next(release)
    return 0


def _tell_next(release: Json) -> None:
    version = f" {release['version']}" if release["version"] else ""
    verb = {"release": "sign", "withdraw": "withdraw", "renew": "renew"}[release["kind"]]
    needed = release["signatures"]["needed"]
    missing = f"{needed} signature{'' if needed == 1 else 's'} missing"
    command = f"edgefleet release {verb} {release['model']}{version} --key URI --root FILE"
    notices().print(f"{missing}: {command}", soft_wrap=True)
