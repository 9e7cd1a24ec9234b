"""Changes of who may sign what, as the next unsigned documents. Pure: no keys, no files, no clock.

Three documents hold all of it:

    image-root      keys of the root, targets, snapshot and timestamp of the image repository
    image-targets   delegations: `prod-MODEL` to release keys, `dev` to the signer's
    director-root   keys of the director's root and of assignments

A root follows its predecessor by exactly one (TUF specification 5.3.5); targets only ever go up.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Root, Targets

from controller.trust.custody.keys import KeyName
from controller.trust.errors import LintCode, TrustLint
from controller.trust.images.image_roles import RELEASE_PREFIX, new_targets, next_version, release_paths, whole_seconds
from controller.trust.images.lint import lint_apart, lint_delegations, lint_root

LIFETIME = timedelta(days=365)
RENEWED_BEFORE = timedelta(days=60)
"""A document that expires sooner than this is signed anew."""


class DocumentName(StrEnum):
    """The documents that only offline keys sign."""

    DIRECTOR_ROOT = "director-root"
    IMAGE_ROOT = "image-root"
    IMAGE_TARGETS = "image-targets"


ONLINE_ROLES = {
    KeyName.IMAGE_SNAPSHOT: (DocumentName.IMAGE_ROOT, "snapshot"),
    KeyName.IMAGE_TIMESTAMP: (DocumentName.IMAGE_ROOT, "timestamp"),
    KeyName.IMAGE_DEV: (DocumentName.IMAGE_TARGETS, "dev"),
    KeyName.DIRECTOR: (DocumentName.DIRECTOR_ROOT, "targets"),
}
"""Online keys that an offline document names. Others (bins, device CA, statements) are replaced by the signer alone."""


@dataclass(frozen=True)
class RoleKeys:
    """The public keys of a role and how many of them must sign."""

    keys: tuple[Key, ...]
    threshold: int


@dataclass(frozen=True)
class TrustPlan:
    """Who is to hold what in a new installation."""

    image_root: RoleKeys
    image_targets: RoleKeys
    director_root: RoleKeys
    online: Mapping[KeyName, Key]
    """The signer's public keys, of ONLINE_ROLES at least."""
    releases: Mapping[str, RoleKeys] = field(default_factory=dict)
    """By model."""


@dataclass(frozen=True)
class Trust:
    """The three documents, all verified, of one moment."""

    image_root: Root
    image_targets: Targets
    director_root: Root

    def document(self, name: DocumentName) -> Root | Targets:
        """Return one of them."""
        return self.image_targets if name is DocumentName.IMAGE_TARGETS else self.root(name)

    def root(self, name: DocumentName) -> Root:
        """Return one of the two roots."""
        return self.director_root if name is DocumentName.DIRECTOR_ROOT else self.image_root

    def role(self, role: str) -> RoleKeys:
        """Return keys and threshold of `image-root`, `image-targets`, `director-root` or `prod-MODEL`."""
        document, inner = place_of(role)
        holder = self.document(document)
        if isinstance(holder, Targets) and inner not in _delegated(holder):
            known = ", ".join(name for name in _delegated(holder) if name.startswith(RELEASE_PREFIX)) or "none yet"
            raise TrustLint(f"there is no role {role}; release roles are: {known}", field="role")
        found = holder.get_delegated_role(inner)
        return RoleKeys(tuple(holder.get_key(keyid) for keyid in found.keyids), found.threshold)

    def roles(self) -> Iterable[str]:
        """Name the roles that people hold keys of."""
        return (*DocumentName, *(name for name in _delegated(self.image_targets) if name.startswith(RELEASE_PREFIX)))

    def replaced(self, documents: Mapping[DocumentName, Root | Targets]) -> "Trust":
        """Return the trust that these documents make in place of the present ones."""
        after = {name: documents.get(name, self.document(name)) for name in DocumentName}
        roots = [after[name] for name in (DocumentName.IMAGE_ROOT, DocumentName.DIRECTOR_ROOT)]
        targets = after[DocumentName.IMAGE_TARGETS]
        if not (isinstance(roots[0], Root) and isinstance(targets, Targets) and isinstance(roots[1], Root)):
            raise TrustLint("a document is not of the kind that its name says", code=LintCode.THRESHOLD)
        return Trust(roots[0], targets, roots[1])


Documents = Mapping[DocumentName, Root | Targets]
"""Those of the three documents that a change makes anew."""


def place_of(role: str) -> tuple[DocumentName, str]:
    """Return the document that says who holds a role, and the role's name in it; TrustLint for an unknown one."""
    places = {
        "image-root": (DocumentName.IMAGE_ROOT, "root"),
        "image-targets": (DocumentName.IMAGE_ROOT, "targets"),
        "director-root": (DocumentName.DIRECTOR_ROOT, "root"),
    }
    if role in places:
        return places[role]
    if role.startswith(RELEASE_PREFIX) and len(role) > len(RELEASE_PREFIX):
        return DocumentName.IMAGE_TARGETS, role
    raise TrustLint(
        f"there is no role {role!r}; roles are image-root, image-targets, director-root and prod-MODEL", field="role"
    )


def new_trust(plan: TrustPlan, now: datetime, *, single_operator: bool = False) -> Documents:
    """Return the first three documents of an installation."""
    image_root, director_root = Root(consistent_snapshot=True), Root(consistent_snapshot=True)
    _assign(image_root, "root", plan.image_root)
    _assign(image_root, "targets", plan.image_targets)
    _assign(director_root, "root", plan.director_root)
    targets = new_targets(lambda name: plan.online[name])
    trust = Trust(image_root, targets, director_root)
    for online, (document, role) in ONLINE_ROLES.items():
        if document is not DocumentName.IMAGE_TARGETS:
            _assign(trust.root(document), role, RoleKeys((plan.online[online],), 1))
    for model, keys in plan.releases.items():
        _delegate(targets, model, keys)
    now = whole_seconds(now)
    targets.version = next_version(0, now)
    for name in DocumentName:
        trust.document(name).expires = now + LIFETIME
    check_trust(trust, single_operator=single_operator)
    return {name: trust.document(name) for name in DocumentName}


class RoleChanges:
    """Changes on top of the present trust, collected so that each document grows by one version however many."""

    def __init__(self, trust: Trust) -> None:
        """Start from verified documents, which stay as they are."""
        self._before = trust
        self._trust = copy.deepcopy(trust)
        self._touched: set[DocumentName] = set()

    @property
    def trust(self) -> Trust:
        """Return the trust as it would be with the changes so far, not yet numbered or dated."""
        return self._trust

    def set_role(self, role: str, keys: Iterable[Key], threshold: int) -> Self:
        """Give a role these keys, all of them, and this threshold; a `prod-MODEL` that is new is delegated."""
        document, inner = place_of(role)
        wanted = RoleKeys(tuple(keys), threshold)
        if document is DocumentName.IMAGE_TARGETS:
            _delegate(self._trust.image_targets, inner.removeprefix(RELEASE_PREFIX), wanted)
        else:
            _assign(self._trust.root(document), inner, wanted)
        self._touched.add(document)
        if role == DocumentName.IMAGE_TARGETS:
            self._touched.add(DocumentName.IMAGE_TARGETS)  # its new keys have signed nothing yet
        return self

    def revoke(self, keyid: str, replacement: Key | None = None) -> Self:
        """Take a key out of every role that people hold, and put another in its place where one is given.

        TrustLint where too few would stay, or where no role names the key.
        """
        held = [role for role in self._trust.roles() if keyid in {key.keyid for key in self._trust.role(role).keys}]
        if not held:
            raise TrustLint(self._not_held(keyid), field="keyid")
        for role in held:
            present = self._trust.role(role)
            kept = tuple(key for key in present.keys if key.keyid != keyid)
            kept += (replacement,) if replacement is not None else ()
            if len(kept) < present.threshold:
                raise TrustLint(
                    f"without {keyid[:16]} the role {role} has {len(kept)} keys and needs {present.threshold}; put "
                    "another in its place with --replacement FILE.pub",
                    code=LintCode.THRESHOLD,
                )
            self.set_role(role, kept, present.threshold)
        return self

    def replace_online_key(self, name: KeyName, key: Key) -> Self:
        """Name another key of the signer; nothing changes for those that no offline document names."""
        if name not in ONLINE_ROLES:
            return self
        document, role = ONLINE_ROLES[name]
        if document is DocumentName.IMAGE_TARGETS:
            _replace_keys(self._trust.image_targets, role, RoleKeys((key,), 1))
        else:
            _assign(self._trust.root(document), role, RoleKeys((key,), 1))
        self._touched.add(document)
        return self

    def renew(self, *documents: DocumentName) -> Self:
        """Sign these documents again as they are, for another year."""
        self._touched.update(documents)
        return self

    def documents(self, now: datetime) -> Documents:
        """Return what changed, numbered and dated, not yet signed; TrustLint when it would weaken trust."""
        now = whole_seconds(now)
        for name in self._touched:
            signed = self._trust.document(name)
            signed.expires = now + LIFETIME
            signed.version = signed.version + 1 if isinstance(signed, Root) else next_version(signed.version, now)
        check_trust(self._trust, self._before)
        return {name: self._trust.document(name) for name in DocumentName if name in self._touched}

    def _not_held(self, keyid: str) -> str:
        for name, (document, role) in ONLINE_ROLES.items():
            if keyid in self._trust.document(document).get_delegated_role(role).keyids:
                return f"{keyid[:16]} is the signer's key {name}; replace it: edgefleet key rotate {name}"
        return f"no role names the key {keyid}; see: edgefleet key list"


def due_for_renewal(trust: Trust, now: datetime) -> tuple[DocumentName, ...]:
    """Name the documents that expire within RENEWED_BEFORE."""
    return tuple(name for name in DocumentName if trust.document(name).expires - now < RENEWED_BEFORE)


def check_trust(trust: Trust, before: Trust | None = None, *, single_operator: bool = False) -> None:
    """Raise TrustLint for documents that together promise less than they seem to.

    A root needs two people and a spare key, unless it is the first one of a single operator, or follows such a one.
    """
    for name in (DocumentName.IMAGE_ROOT, DocumentName.DIRECTOR_ROOT):
        alone = single_operator if before is None else not _needs_two_people(before.root(name))
        lint_root(trust.root(name), single_operator=alone)
    lint_delegations(trust.image_targets)
    lint_apart(trust.image_root, trust.image_targets, trust.director_root)


def _needs_two_people(root: Root) -> bool:
    try:
        lint_root(root, single_operator=False)
    except TrustLint:
        return False
    return True


def _delegated(targets: Targets) -> Mapping[str, DelegatedRole]:
    return (targets.delegations and targets.delegations.roles) or {}


def _assign(root: Root, role: str, wanted: RoleKeys) -> None:
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    _add_all(root.add_key, wanted, role)
    root.roles[role].threshold = wanted.threshold


def _replace_keys(targets: Targets, role: str, wanted: RoleKeys) -> None:
    for keyid in list(_delegated(targets)[role].keyids):
        targets.revoke_key(keyid, role)
    _add_all(targets.add_key, wanted, role)
    _delegated(targets)[role].threshold = wanted.threshold


def _add_all(add_key: Callable[[Key, str], None], wanted: RoleKeys, role: str) -> None:
    if len({key.keyid for key in wanted.keys}) < len(wanted.keys):
        raise TrustLint(f"{role} names one key twice", code=LintCode.DUPLICATE_KEY, field="keys")
    for key in wanted.keys:
        add_key(key, role)


def _delegate(targets: Targets, model: str, wanted: RoleKeys) -> None:
    role = f"{RELEASE_PREFIX}{model}"
    if targets.delegations is None or targets.delegations.roles is None:
        raise TrustLint("the targets document delegates nothing, not even `dev`; it is not one of ours")
    if role not in targets.delegations.roles:
        targets.delegations.roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=[release_paths(model)])
    _replace_keys(targets, role, wanted)
