"""How a release comes into force: drafted from what is published, signed elsewhere, checked and written.

The controller can draft and it can publish; it cannot sign. What it is handed is checked as devices will check it, and
beyond that for what release keys must not sign at all (`release_roles`).
"""

from collections.abc import Sequence
from datetime import datetime

from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Targets

from controller.trust.durable_files import Write
from controller.trust.errors import DocumentRefused, RefusalCode, TrustConflict
from controller.trust.images.image_roles import RELEASE_PREFIX
from controller.trust.images.publication import Changes, Publication
from controller.trust.images.published import Published, PublishedFiles, delegated
from controller.trust.images.release_roles import (
    ReleaseStatus,
    ReleaseTerms,
    add_manifest,
    by_sha256,
    check_content,
    check_delegated,
    check_manifest,
    draft,
    remove_version,
    role_named_by,
    status_of,
    with_signature,
)
from controller.trust.images.signed_documents import TARGETS_BYTES_MAX, check_signed, read_document


class ReleasePublication:
    """Drafts, checks and publishes release roles; its caller holds the directory's lock."""

    def __init__(self, files: PublishedFiles, publication: Publication, write: Write) -> None:
        """Take where the files are, what publishes them and how a file is written."""
        self._files = files
        self._publication = publication
        self._write = write

    def read(self, model: str) -> Targets | None:
        """Return a model's releases as they are published."""
        published = self._files.read()
        role = check_delegated(model, published.targets)
        return self._files.role(role, published) if f"{role}.json" in published.snapshot.meta else None

    def unsigned(self) -> list[str]:
        """Return the release roles that were published and lack signatures by now."""
        published = self._files.read()
        roles = [role for role in delegated(published.targets) if f"{role}.json" in published.snapshot.meta]
        return sorted(
            role for role in roles if role.startswith(RELEASE_PREFIX) and not self._files.is_signed(role, published)
        )

    def draft(self, model: str, add: Sequence[bytes], removed: int | None, terms: ReleaseTerms, now: datetime) -> bytes:
        """Return the next document of a model's role, unsigned.

        It starts from what was published last, also where keys were revoked since: whoever signs it sees the whole.
        """
        published = self._files.read()
        role = check_delegated(model, published.targets)
        before = self._before(role, published)
        document = draft(before.signed if before else None, model, now)
        if removed is not None:
            remove_version(document, model, removed)
        for content in add:
            add_manifest(document, model, content, terms)
        raw = Metadata(document).to_bytes()
        if len(raw) > TARGETS_BYTES_MAX:
            raise DocumentRefused(
                f"{role} would have {len(raw)} bytes; devices take at most {TARGETS_BYTES_MAX}. Withdraw versions that "
                "no device needs any more"
            )
        return raw

    def status(self, raw: bytes) -> ReleaseStatus:
        """Return who has signed a document, and who may."""
        return status_of(raw, self._files.read().targets)

    def add_signature(self, raw: bytes, signature: Signature) -> bytes:
        """Return a document with one more signature."""
        return with_signature(raw, signature, self._files.read().targets)

    def publish(self, raw: bytes, manifests: Sequence[bytes], now: datetime) -> bool:
        """Publish a signed document; False when it is published already."""
        published = self._files.read()
        document = read_document(raw, Targets, "release")
        role = role_named_by(document.signed)
        check_delegated(role.removeprefix(RELEASE_PREFIX), published.targets)
        check_signed(document, published.targets, role, "its release keys")
        before = self._before(role, published)
        is_known = before is not None and before.signed_bytes == document.signed_bytes
        if before is not None and not (is_known and self._files.is_signed(role, published)):
            _check_follows(role, document.signed, before.signed)
        check_content(document, before.signed if before else None, now)
        self._write_manifests(document.signed, manifests)
        if not is_known:
            # Signatures of others than the role's keys would only cost devices bytes.
            named = published.targets.get_delegated_role(role).keyids
            document.signatures = {keyid: each for keyid, each in document.signatures.items() if keyid in named}
            self._publication.commit(published, Changes(offline={role: document.to_bytes()}), now)
        return not is_known

    def _before(self, role: str, published: Published) -> Metadata[Targets] | None:
        """Return the document that the signed snapshot names, whether or not its signatures still count."""
        raw = self._files.raw_release(role, published)
        return None if raw is None else read_document(raw, Targets, role)

    def _write_manifests(self, document: Targets, manifests: Sequence[bytes]) -> None:
        contents = by_sha256(manifests)
        for target in document.targets.values():
            path = self._files.target_path(target)
            present = path.read_bytes() if path.exists() else None
            content = contents.get(target.hashes["sha256"], present)
            if content is None:
                raise DocumentRefused(
                    f"the bytes of {target.path} (sha256 {target.hashes['sha256']}) are not here; hand them over with "
                    "the document",
                    code=RefusalCode.MALFORMED,
                )
            check_manifest(target, content)
            if content != present:
                self._write(path, content)


def _check_follows(role: str, document: Targets, before: Targets) -> None:
    if document.version <= before.version:
        raise TrustConflict(
            f"the document has version {document.version}; version {before.version} of {role} is published. Cancel the "
            "release and propose it again"
        )
