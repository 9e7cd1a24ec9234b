"""How roots and delegations that offline keys signed come into force in the image repository.

What is signed elsewhere is verified here as devices will: a root against its predecessor and itself, targets against
the root. Then the signer signs what no longer carries the right signatures, and `Publication` writes all of it.
"""

from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Role, Root, Snapshot, Targets, Timestamp

from controller.trust.custody.keys import KeyName
from controller.trust.durable_files import Write
from controller.trust.errors import DocumentRefused, SigningKeyError, TrustConflict
from controller.trust.images.image_roles import BIN_ROLES, new_dev
from controller.trust.images.lint import lint_delegations, lint_root
from controller.trust.images.publication import Changes, Publication
from controller.trust.images.published import Published, PublishedFiles
from controller.trust.images.root_chain import RootChain
from controller.trust.images.signed_documents import check_signed, read_document
from controller.trust.signer.interface import OnlineSigner
from device_agent.protocol.errors import Code

_ONLINE_TOP = {"snapshot": KeyName.IMAGE_SNAPSHOT, "timestamp": KeyName.IMAGE_TIMESTAMP}


class Installation:
    """Installs roots and delegations; its caller holds the directory's lock."""

    def __init__(
        self,
        files: PublishedFiles,
        publication: Publication,
        signer: OnlineSigner,
        write: Write,
        single_operator: bool,
    ) -> None:
        """Take where the files are, what publishes them, who signs, and how strict a root must be."""
        self._files = files
        self._publication = publication
        self._signer = signer
        self._single_operator = single_operator
        self._roots = RootChain(files.metadata, write)

    def begin(self, root: bytes, targets: bytes, now: datetime) -> None:
        """Publish an empty repository; one that was cut off here goes on with the same root."""
        is_new = not self._roots.holds(root)
        trusted = self._next_root(root, now) if is_new else self._roots.newest()
        document = self._checked_targets(targets, trusted, now)
        dev = new_dev(newest_bins_key(self._signer))
        empty = Published(trusted, Timestamp(), Snapshot(), document.signed, dev)
        online = {"dev": dev} | {role: Targets() for role in BIN_ROLES}
        changes = Changes(online, {"targets": targets}, root if is_new else None)
        self._publication.commit(empty, changes, now)

    def follow(self, root: bytes | None, targets: bytes | None, now: datetime) -> None:
        """Install the next root, the next delegations or both, on top of what is published."""
        new_root = None
        if root is not None and not self._roots.holds(root):
            new_root = self._next_root(root, now)
        published = self._files.read(following=new_root)
        new_targets = self._next_targets(targets, published, now) if targets is not None else None
        if "targets" in published.outdated and new_targets is None:
            raise TrustConflict(
                f"version {published.root.version} of root names other keys for targets than have signed version "
                f"{published.targets.version}; install it together with a targets document that they signed"
            )
        changes = Changes()
        if new_root is not None:
            changes.root, changes.former = root, self._roots.newest()
        if new_targets is not None and targets is not None:
            changes.offline = {"targets": targets}
            changes.online = self._replace_delegations(published, new_targets)
        if changes.offline or published.outdated:
            self._publication.commit(published, changes, now)
        elif new_root is not None and root is not None:
            self._roots.append(root)

    def _next_root(self, raw: bytes, now: datetime) -> Root:
        root = self._roots.check_next(raw)
        lint_root(root, single_operator=self._single_operator)
        _check_expiry("root", root, now)
        for role, name in _ONLINE_TOP.items():
            self._check_online(role, root.roles[role], name)
        return root

    def _check_online(self, role: str, delegated: Role, name: KeyName) -> None:
        held = {key.keyid for key in self._signer.public_keys(name)}
        if delegated.threshold != 1 or not delegated.keyids or not held.issuperset(delegated.keyids):
            raise SigningKeyError(
                f"{role} is given to other keys than the signer's {name} ({', '.join(each[:16] for each in held)}); "
                "put the key that is named into the signer, or make the ceremony anew"
            )

    def _next_targets(self, raw: bytes, published: Published, now: datetime) -> Metadata[Targets] | None:
        """Return targets that may follow the published ones; None when they, or later ones, are published."""
        offered = read_document(raw, Targets, "targets")
        path = self._files.path("targets", offered.signed.version)
        if offered.signed.version <= published.targets.version:
            if (
                path.exists()
                and read_document(path.read_bytes(), Targets, str(path)).signed_bytes == offered.signed_bytes
            ):
                return None
            raise TrustConflict(
                f"targets have version {offered.signed.version}; version {published.targets.version} is published with "
                "other content. Make the ceremony anew on top of it"
            )
        return self._checked_targets(raw, published.root, now)

    def _checked_targets(self, raw: bytes, root: Root, now: datetime) -> Metadata[Targets]:
        document = read_document(raw, Targets, "targets")
        check_signed(document, root, "targets", "the keys of targets")
        lint_delegations(document.signed)
        _check_expiry("targets", document.signed, now)
        self._check_online("dev", document.signed.get_delegated_role("dev"), KeyName.IMAGE_DEV)
        return document

    def _replace_delegations(self, published: Published, document: Metadata[Targets]) -> dict[str, Targets]:
        """Put new delegations in force in `published`; return the online roles that must be signed anew."""
        changed = rekeyed_roles(self._files, published, self._signer)
        before, after = (targets.get_delegated_role("dev") for targets in (published.targets, document.signed))
        if before.keyids != after.keyids:
            changed["dev"] = published.dev
        published.targets = document.signed
        return changed


def online_roles(files: PublishedFiles, published: Published) -> dict[str, Targets]:
    """Return `dev` and every bin as they are published."""
    return {"dev": published.dev} | {role: files.role(role, published) for role in BIN_ROLES}


def rekeyed_roles(files: PublishedFiles, published: Published, signer: OnlineSigner) -> dict[str, Targets]:
    """Return `dev` and every bin where the signer has a newer key for the bins than `dev` names, else nothing.

    `dev` in `published` is replaced by one that names the new key.
    """
    dev = new_dev(newest_bins_key(signer))
    delegations, present = dev.delegations, published.dev.delegations
    if present is not None and delegations is not None and present.keys.keys() == delegations.keys.keys():
        return {}
    changed = online_roles(files, published)
    dev.version = published.dev.version
    published.dev = changed["dev"] = dev
    return changed


def newest_bins_key(signer: OnlineSigner) -> Key:
    """Return the key that the bins are to be signed with: a prepared successor, where there is one.

    No document that people sign names it, so nothing has to be waited for.
    """
    return signer.public_keys(KeyName.IMAGE_BINS)[-1]


def _check_expiry(role: str, signed: Root | Targets, now: datetime) -> None:
    if signed.is_expired(now):
        raise DocumentRefused(
            f"version {signed.version} of {role} expired at {signed.expires:%Y-%m-%d %H:%M} UTC; make the ceremony "
            "anew",
            code=Code.EXPIRED,
        )
