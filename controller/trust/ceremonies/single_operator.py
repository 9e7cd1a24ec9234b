"""One person is everybody: the offline keys lie beside the controller and trust keeps itself in order.

    keys/offline/   image-root.pem  image-targets.pem  director-root.pem  release.pem

Everything here is what a ceremony does, by the same documents and checks, with thresholds of one. A controller that is
taken over can release models; pages and commands say so permanently.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signature, Signer
from tuf.api.metadata import Metadata

from controller.trust.ceremonies.offline_documents import changing, install, read_in_force
from controller.trust.ceremonies.role_changes import (
    ONLINE_ROLES,
    DocumentName,
    Documents,
    RoleChanges,
    RoleKeys,
    Trust,
    TrustPlan,
    due_for_renewal,
    new_trust,
)
from controller.trust.custody.keys import OFFLINE, KeyName, KeyStore
from controller.trust.durable_files import Write, write_durably
from controller.trust.errors import SigningKeyError
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.image_roles import release_role
from controller.trust.signer.interface import OnlineSigner

SIGNED_BY = {
    DocumentName.IMAGE_ROOT: KeyName.IMAGE_ROOT,
    DocumentName.IMAGE_TARGETS: KeyName.IMAGE_TARGETS,
    DocumentName.DIRECTOR_ROOT: KeyName.DIRECTOR_ROOT,
}


def ensure(
    tuf_dir: Path, offline_keys: Path, signer: OnlineSigner, now: datetime, write: Write = write_durably
) -> None:
    """Make the roots of trust where there are none, and renew those that expire within 60 days.

    Safe in several processes at once, at every start and daily; a call that was interrupted is completed by the next.
    """
    with changing(tuf_dir):
        present = read_in_force(tuf_dir)
        if present is None:
            _make(tuf_dir, offline_keys, signer, now, write)
            return
        due = due_for_renewal(present.trust, now)
        if due and holds_all(present.trust, offline_keys, due):
            documents = RoleChanges(present.trust).renew(*due).documents(now)
            install(ImageRepository(tuf_dir, signer, write), tuf_dir, signed(documents, offline_keys), now, write)


def ensure_release_role(
    tuf_dir: Path, offline_keys: Path, signer: OnlineSigner, model: str, now: datetime, write: Write = write_durably
) -> None:
    """Delegate `prod-MODEL` to the local release key where nobody holds it yet."""

    def delegate(changes: RoleChanges, trust: Trust) -> bool:
        if release_role(model) in trust.roles():
            return False
        changes.set_role(release_role(model), [release_signer(offline_keys).public_key], 1)
        return True

    change(tuf_dir, offline_keys, signer, now, delegate, write)


def change(
    tuf_dir: Path,
    offline_keys: Path,
    signer: OnlineSigner,
    now: datetime,
    decide: Callable[[RoleChanges, Trust], bool],
    write: Write = write_durably,
) -> Mapping[DocumentName, Metadata[Any]]:
    """Change roles and install at once what that makes, signed by the local keys; return the documents.

    `decide` makes the changes and says whether there are any. TrustLint or SigningKeyError before anything changes.
    """
    with changing(tuf_dir):
        present = read_in_force(tuf_dir)
        if present is None:
            raise SigningKeyError("there is no trust yet that could be changed; start the controller once")
        changes = RoleChanges(present.trust)
        if not decide(changes, present.trust):
            return {}
        documents = signed(changes.documents(now), offline_keys)
        install(ImageRepository(tuf_dir, signer, write), tuf_dir, documents, now, write)
        return documents


def release_signer(offline_keys: Path) -> Signer:
    """Return the local release key, made when it is first asked for."""
    return KeyStore(offline_keys, OFFLINE).signer(KeyName.RELEASE)


def sign_release(offline_keys: Path, document: Metadata[Any]) -> Signature:
    """Add the local release key's signature to a role document."""
    return document.sign(release_signer(offline_keys), append=True)


def holds_all(trust: Trust, offline_keys: Path, documents: tuple[DocumentName, ...] = tuple(DocumentName)) -> bool:
    """Say whether the local keys alone can sign these documents; not so once a ceremony gave roles to people."""
    keys = KeyStore(offline_keys, OFFLINE)
    return all(
        trust.role(name).threshold == 1
        and keys.signer(SIGNED_BY[name]).public_key.keyid in {key.keyid for key in trust.role(name).keys}
        for name in documents
    )


def signed(documents: Documents, offline_keys: Path) -> dict[DocumentName, Metadata[Any]]:
    """Return these documents with the signatures of the local keys."""
    keys = KeyStore(offline_keys, OFFLINE)
    found = {}
    for name, content in documents.items():
        found[name] = Metadata[Any](content)
        found[name].sign(keys.signer(SIGNED_BY[name]))
    return found


def _make(tuf_dir: Path, offline_keys: Path, signer: OnlineSigner, now: datetime, write: Write) -> None:
    keys = KeyStore(offline_keys, OFFLINE)

    def alone(name: KeyName) -> RoleKeys:
        return RoleKeys((keys.signer(name).public_key,), 1)

    online = {name: signer.public_key(name) for name in ONLINE_ROLES}
    plan = TrustPlan(alone(KeyName.IMAGE_ROOT), alone(KeyName.IMAGE_TARGETS), alone(KeyName.DIRECTOR_ROOT), online)
    documents = signed(new_trust(plan, now, single_operator=True), offline_keys)
    # A first start that was interrupted has installed a part: what is on the disk stays, the rest is made.
    partly = read_in_force(tuf_dir, whole=False)
    documents |= dict(partly.documents) if partly else {}
    install(ImageRepository(tuf_dir, signer, write), tuf_dir, documents, now, write)
