"""`edgefleet key rotate`: new keys for the signer, and for a single operator's offline roles."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.key_ceremony import begin
from controller.cli.key_place import Place, now
from controller.cli.render import notices

if TYPE_CHECKING:
    from controller.trust.ceremonies.role_changes import RoleChanges
    from controller.trust.custody.keys import KeyName


def rotate_keys(place: Place, names: Sequence[str], folder: Path | None) -> None:
    """Prepare the next keys, and begin the ceremony that names them; what no offline document names changes at once."""
    from controller.trust.ceremonies.role_changes import ONLINE_ROLES, RoleChanges
    from controller.trust.custody.keys import ONLINE, KeyName

    chosen = _names(names)
    changes = RoleChanges(place.trust())
    store = place.online_keys()
    for name in chosen:
        if name in ONLINE:
            changes.replace_online_key(name, store.prepare_next(name))
        else:
            _replace_local(place, changes, name)
    documents = changes.documents(now())
    unnamed = [name for name in chosen if name in ONLINE and name not in ONLINE_ROLES]
    if documents:
        rotates = tuple(name for name in chosen if name in ONLINE_ROLES)
        begin(place, documents, f"new keys: {', '.join(chosen)}", folder, rotates)
    else:
        place.promote_local_keys()
    _replace_unnamed(place, unnamed)
    if KeyName.RELEASE in chosen:
        notices().print("sign the releases with the new key: edgefleet release renew MODEL, for each", soft_wrap=True)


def _replace_unnamed(place: Place, names: list["KeyName"]) -> None:
    from controller.trust.custody.keys import KeyName
    from controller.trust.images.image_repository import ImageRepository

    store = place.online_keys()
    for name in names:
        store.promote(name)
        notices().print(f"the signer has a new key {name}", soft_wrap=True)
    if KeyName.IMAGE_BINS in names:
        # `dev` names it, which the signer signs itself; the hourly refresh would do the same.
        ImageRepository(place.tuf_dir, place.signer()).reissue(now())


def _replace_local(place: Place, changes: "RoleChanges", name: "KeyName") -> None:
    store = place.local_keys()
    if store is None:
        raise CommandFailed(
            f"the key {name} is not on this machine; its holders are changed with `edgefleet key role` or `key revoke`",
            ExitCode.CONFLICT,
        )
    present, following = store.signer(name).public_key, store.prepare_next(name)
    trust = changes.trust
    if any(present.keyid in {key.keyid for key in trust.role(held).keys} for held in trust.roles()):
        changes.revoke(present.keyid, following)


def _names(names: Sequence[str]) -> list["KeyName"]:
    from controller.trust.custody.keys import KeyName

    unknown = [name for name in names if name not in set(KeyName)]
    if unknown or not names:
        raise CommandFailed(
            f"there is no key {', '.join(unknown) or 'without a name'}; keys are {', '.join(KeyName)}", ExitCode.USAGE
        )
    return [KeyName(name) for name in dict.fromkeys(names)]
