"""Releases of a model: the role `prod-MODEL`, whose documents are drafted here and signed elsewhere.

A document goes from hand to hand until as many release keys have signed it as its delegation asks for. It names its
own role (`x-role`), so that what was signed for one model is never taken for another's, also where they share keys.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, TargetFile, Targets

from controller.domain.errors import NotFound
from controller.trust.errors import DocumentRefused, RefusalCode, ReleaseRoleMissing, TargetConflictError
from controller.trust.images.image_roles import RELEASE_PREFIX, manifest_target, policy_of, release_role, role_of
from controller.trust.images.published import delegated
from controller.trust.images.signed_documents import read_document
from device_agent.protocol.manifest import MANIFEST_BYTES_MAX

ROLE_FIELD = "x-role"
CLOCKS_APART = timedelta(days=1)
"""How much later than its lifetime allows a document may expire, for clocks that do not agree."""


@dataclass(frozen=True)
class ReleaseTerms:
    """What a release asks of the devices that take it."""

    floor: int | None = None
    """Devices that have seen it refuse releases of this model below this number."""
    hardware: Sequence[str] = ()
    """Device profiles that may run it; none: all."""

    def apply(self, target: TargetFile) -> None:
        """Write the terms into a target's `custom`."""
        custom = target.unrecognized_fields["custom"]
        if self.floor is not None:
            custom["floor"] = self.floor
        if self.hardware:
            custom["hw"] = sorted(set(self.hardware))


@dataclass(frozen=True)
class ReleaseStatus:
    """Who has signed a release document, and who may."""

    role: str
    version: int
    expires: datetime
    threshold: int
    keyids: tuple[str, ...]
    """Key ids that the role's delegation names."""
    signed: tuple[str, ...]
    """Those among them whose good signature the document carries."""

    @property
    def is_complete(self) -> bool:
        """Say whether enough have signed."""
        return len(self.signed) >= self.threshold

    @property
    def missing(self) -> int:
        """Return how many signatures are still needed."""
        return max(0, self.threshold - len(self.signed))


def check_delegated(model: str, targets: Targets) -> str:
    """Return the model's release role; ReleaseRoleMissing, with the remedy, when nobody holds it."""
    role = release_role(model)
    if role not in delegated(targets):
        raise ReleaseRoleMissing(
            f"no release keys are named for {model}; name them with `edgefleet key role {role} --threshold 2 --key "
            "FILE.pub ...`",
            field="/model",
        )
    return role


def draft(previous: Targets | None, model: str, now: datetime) -> Targets:
    """Return the role's next document: what the previous one holds, the next version, ninety days."""
    targets = dict(previous.targets) if previous else {}
    role = release_role(model)
    return Targets(
        version=previous.version + 1 if previous else 1,
        expires=now + policy_of(role).lifetime,
        targets=targets,
        unrecognized_fields={ROLE_FIELD: role},
    )


def add_manifest(document: Targets, model: str, content: bytes, terms: ReleaseTerms) -> None:
    """Put a manifest into a draft; TargetConflictError where its path is released with other content."""
    target = manifest_target(content, "prod")
    if target.unrecognized_fields["custom"]["slot"] != model:
        raise DocumentRefused(f"{target.path} is not a manifest of {model}", field="/variants")
    _check_same(document, target)
    terms.apply(target)
    document.targets[target.path] = target


def remove_version(document: Targets, model: str, version: int) -> None:
    """Take a version out of a draft; NotFound when it is not in there."""
    gone = [path for path in document.targets if path.startswith(f"prod/{model}/{version}/")]
    if not gone:
        raise NotFound(f"version {version} of {model} is not released; see `edgefleet release list`", field="/version")
    for path in gone:
        del document.targets[path]


def role_named_by(document: Targets) -> str:
    """Return the release role that a document says it is for; DocumentRefused when it says none."""
    role = document.unrecognized_fields.get(ROLE_FIELD)
    if not isinstance(role, str) or not role.startswith(RELEASE_PREFIX):
        raise DocumentRefused(
            f"{ROLE_FIELD} is {role!r}; a release document names its role", code=RefusalCode.MALFORMED
        )
    return role


def status_of(raw: bytes, targets: Targets) -> ReleaseStatus:
    """Return who has signed a document, by the delegations that are published now."""
    document = read_document(raw, Targets, "release")
    role = role_named_by(document.signed)
    check_delegated(role.removeprefix(RELEASE_PREFIX), targets)
    found = targets.get_verification_result(role, document.signed_bytes, document.signatures)
    keyids = tuple(targets.get_delegated_role(role).keyids)
    signed = tuple(keyid for keyid in keyids if keyid in found.signed)
    return ReleaseStatus(role, document.signed.version, document.signed.expires, found.threshold, keyids, signed)


def with_signature(raw: bytes, signature: Signature, targets: Targets) -> bytes:
    """Return a document with one more signature; one that it carries already changes nothing.

    Raises DocumentRefused for a key that the role does not name, and for a signature that is not over this document.
    """
    document = read_document(raw, Targets, "release")
    status = status_of(raw, targets)
    keyid = signature.keyid
    if keyid not in status.keyids:
        raise DocumentRefused(
            f"the key {keyid[:16]} is none of {status.role}; its keys are "
            f"{', '.join(each[:16] for each in status.keyids)}",
            code=RefusalCode.SIGNATURE,
            field="/keyid",
        )
    if keyid in status.signed:
        return raw
    try:
        targets.get_key(keyid).verify_signature(signature, document.signed_bytes)
    except UnverifiedSignatureError as error:
        raise DocumentRefused(
            f"the signature by {keyid[:16]} is not over version {status.version} of {status.role} as it stands; sign "
            "the present document",
            code=RefusalCode.SIGNATURE,
            field="/signature",
        ) from error
    document.signatures[keyid] = signature
    return document.to_bytes()


def check_content(document: Metadata[Targets], previous: Targets | None, now: datetime) -> None:
    """Raise DocumentRefused for a document that must not be published whoever signed it, or is no more good."""
    signed = document.signed
    role = role_named_by(signed)
    lasts = signed.expires - now
    if not timedelta(0) < lasts <= policy_of(role).lifetime + CLOCKS_APART:
        raise DocumentRefused(
            f"version {signed.version} of {role} expires at {signed.expires:%Y-%m-%d %H:%M} UTC, which is not within "
            f"{policy_of(role).lifetime.days} days from now; draft and sign it again",
            code="E_FREEZE_EXPIRED",
        )
    if signed.delegations is not None:
        raise DocumentRefused(
            f"{role} delegates further; release keys sign manifests alone", code=RefusalCode.MALFORMED
        )
    for path, target in signed.targets.items():
        if role_of(path) != role or path != target.path:
            raise DocumentRefused(f"{role} lists {path}, which is not its own", code=RefusalCode.MALFORMED)
        if set(target.hashes) != {"sha256"} or not 0 < target.length <= MANIFEST_BYTES_MAX:
            raise DocumentRefused(f"{path} needs a length and one hash, sha256", code=RefusalCode.MALFORMED)
        if previous is not None:
            _check_same(previous, target)


def check_manifest(target: TargetFile, content: bytes) -> None:
    """Raise DocumentRefused, or ProtocolError, unless these bytes are the signed target and say what its path says."""
    try:
        target.verify_length_and_hashes(content)
    except LengthOrHashMismatchError as error:
        raise DocumentRefused(f"the manifest of {target.path} is not the one that was signed: {error}") from error
    said = manifest_target(content, "prod")
    if said.path != target.path or said.custom != {key: (target.custom or {}).get(key) for key in ("slot", "release")}:
        raise DocumentRefused(f"{target.path} is signed for a manifest that says it is {said.path}, {said.custom}")


def by_sha256(manifests: Sequence[bytes]) -> dict[str, bytes]:
    """Return manifests by their digest."""
    return {hashlib.sha256(content).hexdigest(): content for content in manifests}


def _check_same(known: Targets, target: TargetFile) -> None:
    before = known.targets.get(target.path)
    if before is not None and before.hashes != target.hashes:
        raise TargetConflictError(f"{target.path} is released with sha256 {before.hashes['sha256']}")
