"""`edgefleet key`: the keys that trust rests on, who holds them, and how they are replaced.

`list` and `doctor` ask the API. Everything else works on files: keys anywhere, trust in the state folder of the
controller on this machine.
"""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.key_ceremony import begin
from controller.cli.key_place import Place, new_passphrase, now, open_key, open_place, refusals
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import Column, field, moment, notices, print_json, screen, show_list, table

app = App(name="key")
app.command("controller.cli.key_ceremony:app", name="ceremony")

KEYID_CHARACTERS_MIN = 8


def _holders(role: dict[str, Any]) -> str:
    keys = (f"{key['keyid'][:16]}" + (f" ({key['name']})" if key["name"] else "") for key in role["keys"])
    return ", ".join(keys)


ROLES = (
    field("ROLE", "role"),
    Column("NEEDS", lambda role: f"{role['threshold']} of {len(role['keys'])}"),
    moment("EXPIRES", "expires_at"),
    field("RENEWED BY", "renewed_by"),
    Column("WHERE", lambda role: ", ".join(sorted({key["where"] for key in role["keys"]}))),
    Column("KEYS", _holders),
)
WARNINGS = (
    field("WHAT", "code"),
    field("WHERE", "subject"),
    field("WHY", "message"),
    field("REMEDY", "remedy"),
)


@app.command
def generate(
    path: Path,
    /,
    *,
    p256: Annotated[bool, Parameter(negative="")] = False,
    name: str | None = None,
    no_passphrase: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make a key, encrypted with a passphrase, and PATH.pub beside it to hand out; print its fingerprint.

    Parameters
    ----------
    path
        File of the new key; one that exists is never replaced.
    p256
        On the curve P-256 instead of Ed25519.
    name
        Whose key it is, as ceremonies show it; the name of the file unless set. It becomes public.
    no_passphrase
        Do not encrypt; for keys on a medium that is encrypted as a whole.
    """
    from controller.trust.custody.key_uris import generate_key_file
    from controller.trust.custody.public_keys import write_public_key

    with refusals():
        signer = generate_key_file(path, p256=p256, passphrase=None if no_passphrase else new_passphrase())
        write_public_key(_beside(path), signer.public_key, name or path.stem)
    print(signer.public_key.keyid)
    notices().print(f"{path} is the key, for you alone; hand out {_beside(path)}", soft_wrap=True)


@app.command
def public(uri: str, path: Path, /, *, name: str | None = None) -> None:
    """Write the public half of a key of a key service, or of a file, to hand out; print its fingerprint.

    Parameters
    ----------
    uri
        The key: awskms:, gcpkms:, azurekms:, hv:, hsm:, or a file.
    path
        File to write, NAME.pub.
    name
        Whose key it is, as ceremonies show it; the name of the file unless set.
    """
    from controller.trust.custody.public_keys import write_public_key

    with refusals():
        key = open_key(uri).public_key
        write_public_key(path, key, name or path.name.removesuffix(".pub"))
    print(key.keyid)


@app.command(name="list")
def list_keys(*, options: Options = DEFAULTS) -> None:
    """Show every role: how many of which keys must sign, until when, and where the keys are."""
    with options.client() as client:
        report = client.get("/trust")
    show_list(report if options.output == "json" else {"items": report["roles"]}, ROLES, options.output, empty="")
    notices().print(f"installation {report['pin']}", soft_wrap=True)


@app.command
def doctor(*, options: Options = DEFAULTS) -> int:
    """Say what of the keys needs somebody, and what to do; exit code 3 when something does."""
    with options.client() as client:
        report = client.get("/trust")
    found = report["warnings"]
    if options.output == "json":
        print_json(report)
    elif found:
        screen().print(table(found, WARNINGS))
    else:
        notices().print("nothing needs you")
    return ExitCode.NOT_COMPLETED if found else ExitCode.OK


@app.command
def role(
    role: str,
    /,
    *,
    key: Annotated[list[Path], Parameter(negative="")],
    threshold: int,
    folder: Path | None = None,
    state_dir: Path | None = None,
) -> None:
    """Give a role these keys, all of them, and this threshold. Begins a ceremony; a single operator's ends at once.

    Parameters
    ----------
    role
        image-root, image-targets, director-root, or prod-MODEL for the releases of a model.
    key
        Public key of a holder (FILE.pub); give it once per key.
    threshold
        How many of them must sign.
    folder
        New folder of the ceremony; ./ceremony-DATE-TIME unless set.
    state_dir
        Folder of the installation; .edgefleet unless set.
    """
    from controller.trust.ceremonies.role_changes import RoleChanges
    from controller.trust.custody.public_keys import read_public_key

    with refusals():
        place = open_place(state_dir)
        changes = RoleChanges(place.trust()).set_role(role, [read_public_key(path) for path in key], threshold)
        begin(place, changes.documents(now()), f"{role} needs {threshold} of {len(key)} keys", folder)


@app.command
def revoke(
    keyid: str,
    /,
    *,
    replacement: Path | None = None,
    folder: Path | None = None,
    state_dir: Path | None = None,
) -> None:
    """Take a key that was lost or stolen out of every role that names it. Begins a ceremony.

    Parameters
    ----------
    keyid
        Fingerprint of the key, or its beginning.
    replacement
        Public key (FILE.pub) that takes its place.
    folder
        New folder of the ceremony; ./ceremony-DATE-TIME unless set.
    state_dir
        Folder of the installation; .edgefleet unless set.
    """
    from controller.trust.ceremonies.role_changes import RoleChanges
    from controller.trust.custody.public_keys import read_public_key

    with refusals():
        place = open_place(state_dir)
        whole = _whole_keyid(place, keyid)
        changes = RoleChanges(place.trust()).revoke(whole, read_public_key(replacement) if replacement else None)
        begin(place, changes.documents(now()), f"revocation of {whole[:16]}", folder)
    notices().print("what was signed with it must be signed anew: edgefleet key doctor", soft_wrap=True)


@app.command
def rotate(
    *name: str,
    folder: Path | None = None,
    state_dir: Path | None = None,
) -> None:
    """Replace keys of the signer by new ones; in single-operator mode also the offline keys beside the controller.

    Begins a ceremony where offline documents name the keys. Runs on the controller's host, as the signer's user.

    Parameters
    ----------
    name
        image-snapshot, image-timestamp, image-dev, image-bins, director, device-ca, attestation, model-signing; for a
        single operator also image-root, image-targets, director-root, release.
    folder
        New folder of the ceremony; ./ceremony-DATE-TIME unless set.
    state_dir
        Folder of the installation; .edgefleet unless set.
    """
    from controller.cli.key_rotation import rotate_keys

    with refusals():
        rotate_keys(open_place(state_dir), name, folder)


@app.command
def reissue(*, copy: Path | None = None, state_dir: Path | None = None) -> None:
    """Sign every online role anew, above all that was ever signed: after a backup was restored or a key was replaced.

    Assignments in the database are signed anew as well, each at its device's next poll.

    Parameters
    ----------
    copy
        Copy of the published files (the folder `tuf`) that is newer than the backup: roots, delegations and releases
        that people have signed since are brought back from it first, once their signatures were checked.
    state_dir
        Folder of the installation; .edgefleet unless set.
    """
    from controller.trust.images.image_repository import ImageRepository
    from controller.trust.images.published_copy import take_over

    with refusals():
        place = open_place(state_dir)
        repository = ImageRepository(place.tuf_dir, place.signer(), single_operator=place.settings.is_single_operator)
        for name in take_over(copy, place.tuf_dir, repository, now()) if copy else ():
            notices().print(f"{name} is back from {copy}", soft_wrap=True)
        signed = repository.reissue(now())
        place.record_reissue()
    notices().print(f"{len(signed)} roles are signed anew", soft_wrap=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _whole_keyid(place: Place, beginning: str) -> str:
    trust = place.trust()
    known = {key.keyid for role in trust.roles() for key in trust.role(role).keys}
    fits = sorted(keyid for keyid in known if keyid.startswith(beginning.lower()))
    if len(beginning) < KEYID_CHARACTERS_MIN or len(fits) > 1:
        raise CommandFailed(f"{beginning} is too short to name one key; give more of it", ExitCode.USAGE)
    return fits[0] if fits else beginning
