"""`edgefleet key ceremony`: a change of trust, carried as a folder to the machines that hold the keys, and back."""

import sys
from collections.abc import Iterator, Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.key_place import Place, now, open_key, open_place, refusals
from controller.cli.render import notices

if TYPE_CHECKING:
    from controller.trust.ceremonies.ceremony_folder import Ceremony
    from controller.trust.ceremonies.role_changes import Documents, RoleKeys, TrustPlan
    from controller.trust.custody.keys import KeyName

app = App(name="ceremony", help="Ceremonies: what offline keys on other machines sign.")

_ROLES = ("image-root", "image-targets", "director-root")


@app.command
def start(
    *,
    plan: Path | None = None,
    renew: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
    state_dir: Path | None = None,
) -> None:
    """Begin the first trust of an installation, or sign for another year what expires.

    Other changes begin with `edgefleet key role`, `key revoke` and `key rotate`. Runs on the controller's host.

    Parameters
    ----------
    plan
        YAML file that says who holds which role; docs/how-to/keys.md has one.
    renew
        Sign roots and targets again as they are.
    folder
        New folder of the ceremony; ./ceremony-DATE-TIME unless set.
    state_dir
        Folder of the installation; .edgefleet unless set.
    """
    from controller.trust.ceremonies.offline_documents import read_in_force
    from controller.trust.ceremonies.role_changes import DocumentName, RoleChanges, new_trust

    if (plan is None) == (not renew):
        raise CommandFailed("say either --plan FILE or --renew", ExitCode.USAGE)
    with refusals():
        place = open_place(state_dir)
        present = read_in_force(place.tuf_dir)
        if plan is not None:
            if present is not None:
                raise CommandFailed(
                    f"{place.tuf_dir} has its trust already; change it with `edgefleet key role`", ExitCode.CONFLICT
                )
            begin(place, new_trust(_read_plan(plan, place), now()), "first trust", folder)
        elif present is None:
            raise CommandFailed("there is no trust to renew; begin with --plan FILE", ExitCode.CONFLICT)
        else:
            documents = RoleChanges(present.trust).renew(*DocumentName).documents(now())
            begin(place, documents, "renewal for a year", folder)


@app.command
def sign(
    folder: Path,
    /,
    *,
    key: str,
    pin: str | None = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
) -> None:
    """Check a ceremony, show what it changes, and add your signature. Needs no network and no installation.

    Parameters
    ----------
    folder
        Folder of the ceremony.
    key
        Your key: a file that `edgefleet key generate` made, or a URI (awskms:, gcpkms:, azurekms:, hv:, hsm:).
    pin
        Pin of the installation that you expect, as `edgefleet key list` shows it.
    yes
        Sign without asking.
    """
    from controller.trust.ceremonies import ceremony
    from controller.trust.ceremonies.ceremony_folder import read_ceremony
    from controller.trust.ceremonies.ceremony_summary import lines, named

    with refusals():
        read = read_ceremony(folder)
        read.check(now())
        notices().print(f"{read.summary}: installation {read.pin or 'new'}", style="bold", soft_wrap=True)
        for line in lines(read):
            notices().print(f"  {line}", style="red" if line.startswith("WEAKER") else "", soft_wrap=True, markup=False)
        if pin is not None and pin != read.pin:
            raise CommandFailed(f"this is the installation {read.pin or 'new'}, not {pin}", ExitCode.CONFLICT)
        signer = open_key(key)
        if not yes and not _agrees(f"sign this with {named(signer.public_key)}"):
            raise CommandFailed("nothing was signed", ExitCode.NOT_ALLOWED)
        for seat in ceremony.sign(read, signer, now()):
            notices().print(f"signed {seat.document} version {seat.version} as {seat.role}")
    _show_status(read)


@app.command
def status(folder: Path, /) -> int:
    """Say who has signed and who has not; exit code 3 while signatures are missing.

    Parameters
    ----------
    folder
        Folder of the ceremony.
    """
    from controller.trust.ceremonies.ceremony_folder import read_ceremony

    with refusals():
        read = read_ceremony(folder)
        read.check(now())
    return ExitCode.OK if _show_status(read) else ExitCode.NOT_COMPLETED


@app.command
def collect(folder: Path, /, *copy: Path) -> int:
    """Take over the signatures from copies of a folder that were signed elsewhere; exit code 3 while some are missing.

    Parameters
    ----------
    folder
        Folder of the ceremony.
    copy
        Copies of it that came back.
    """
    from controller.trust.ceremonies import ceremony
    from controller.trust.ceremonies.ceremony_folder import read_ceremony

    with refusals():
        for other in copy:
            ceremony.collect(folder, other, now())
        return ExitCode.OK if _show_status(read_ceremony(folder)) else ExitCode.NOT_COMPLETED


@app.command
def finish(folder: Path, /, *, state_dir: Path | None = None) -> None:
    """Install a ceremony that has all its signatures. Runs on the controller's host; after a crash, run it again.

    Parameters
    ----------
    folder
        Folder of the ceremony.
    state_dir
        Folder of the installation; .edgefleet unless set.
    """
    with refusals():
        install(open_place(state_dir), folder)


def begin(
    place: Place, documents: "Documents", summary: str, folder: Path | None, rotates: tuple["KeyName", ...] = ()
) -> None:
    """Write a ceremony's folder; sign it with the local keys of a single operator, and finish it if that is enough."""
    from controller.trust.ceremonies import ceremony
    from controller.trust.errors import TrustError

    alone = place.local_keys() is not None
    inside = place.settings.state_dir / "ceremonies"
    chosen = folder or _new_folder(inside if alone else Path())
    begun = ceremony.start(chosen, documents, place.tuf_dir, summary, rotates=rotates)
    if alone:
        for signer in place.local_signers():
            try:
                ceremony.sign(begun, signer, now())
            except TrustError:
                continue  # this key has no seat in it
        if not any(seat.missing for seat in begun.seats()):
            install(place, chosen)
            return
    notices().print(f"the ceremony is in {chosen}; carry it to the holders of these keys:", soft_wrap=True)
    _show_status(begun)
    notices().print("  each of them: edgefleet key ceremony sign FOLDER --key KEY", soft_wrap=True)
    notices().print(f"  then here:    edgefleet key ceremony finish {chosen}", soft_wrap=True)


def install(place: Place, folder: Path) -> None:
    """Finish a ceremony, put local keys that follow into their places, record it, and say what is in force."""
    from controller.trust.ceremonies import ceremony

    finished = ceremony.finish(folder, place.tuf_dir, place.signer(), now(), online_keys=place.online_keys())
    place.promote_local_keys()
    place.record(finished)
    for name, version in finished.versions.items():
        notices().print(f"{name} version {version} is in force", soft_wrap=True)


def _new_folder(parent: Path) -> Path:
    """Return a name of the present moment that is free, also for two ceremonies in one second."""
    moment = f"{now():%Y%m%d-%H%M%S}"
    names = chain([f"ceremony-{moment}"], (f"ceremony-{moment}-{number}" for number in count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


def _show_status(read: "Ceremony") -> bool:
    from controller.trust.ceremonies.ceremony_summary import seat_line

    seats = list(read.seats())
    for seat in seats:
        print(f"  {seat_line(seat)}")
    return not any(seat.missing for seat in seats)


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandFailed("nobody is there to agree; say --yes", ExitCode.USAGE)
    return input(f"{question}? [y/N] ").strip().lower() in ("y", "yes")


def _read_plan(file: Path, place: Place) -> "TrustPlan":
    import yaml

    from controller.trust.ceremonies.role_changes import ONLINE_ROLES, TrustPlan

    try:
        plan: Any = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CommandFailed(f"{file} cannot be read: {' '.join(str(error).split())}", ExitCode.INVALID) from error
    if not isinstance(plan, dict) or not set(_ROLES) <= set(plan) <= {*_ROLES, "releases"}:
        raise CommandFailed(f"{file} must have {', '.join(_ROLES)} and may have releases", ExitCode.INVALID)
    releases = plan.get("releases") or {}
    if not isinstance(releases, dict):
        raise CommandFailed(f"{file}: releases must map models to keys and threshold", ExitCode.INVALID)
    held = {role: _role_keys(plan[role], role, file) for role in _ROLES}
    signer = place.signer()
    return TrustPlan(
        held["image-root"],
        held["image-targets"],
        held["director-root"],
        {name: signer.public_key(name) for name in ONLINE_ROLES},
        {str(model): _role_keys(said, f"releases.{model}", file) for model, said in releases.items()},
    )


def _role_keys(said: Any, where: str, file: Path) -> "RoleKeys":
    from controller.trust.ceremonies.role_changes import RoleKeys
    from controller.trust.custody.public_keys import read_public_key

    fits = isinstance(said, Mapping) and set(said) == {"threshold", "keys"} and isinstance(said["keys"], list)
    if not fits or not isinstance(said["threshold"], int) or not all(isinstance(key, str) for key in said["keys"]):
        raise CommandFailed(
            f"{file}: {where} must read {{threshold: NUMBER, keys: [FILE.pub, ...]}}; it reads {said!r}",
            ExitCode.INVALID,
        )
    return RoleKeys(tuple(read_public_key(path) for path in _paths(said["keys"], file.parent)), said["threshold"])


def _paths(names: list[str], beside: Path) -> Iterator[Path]:
    return (beside / name for name in names)
