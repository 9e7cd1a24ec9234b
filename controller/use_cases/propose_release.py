"""Propose a release: write the model's next role document, for release keys elsewhere to sign."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Targets

from controller.domain.catalog import ModelVersion
from controller.domain.errors import Conflict, NotFound
from controller.domain.ids import PREFIXES, ModelId, ReleaseId
from controller.domain.releases import Release, ReleaseEvent, ReleaseKind, ReleaseState, check_terms, transition
from controller.store import catalog, releases
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event
from controller.store.releases import ReleasableVariant
from controller.store.variants import lock_image_repository
from controller.trust.errors import SignedFilesError
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.image_roles import release_role
from controller.trust.images.published import PublishedFiles
from controller.use_cases.identity import new_id


def _nothing(_model: str, _now: datetime) -> None:
    """Leave roles to ceremonies."""


@dataclass(frozen=True)
class ReleaseOffice:
    """What releases are proposed, signed and published with."""

    database: Database
    image_repository: ImageRepository
    tuf_dir: Path
    """Where the image repository lies."""
    ensure_role: Callable[[str, datetime], None] = _nothing
    """Delegates the release role of a model where one person is everybody; elsewhere a ceremony does."""

    def published(self, model: str) -> Metadata[Targets] | None:
        """Return the model's role as it is published; None before its first release."""
        files = PublishedFiles(self.tuf_dir)
        raw = files.raw_release(release_role(model), files.read())
        return None if raw is None else Metadata[Targets].from_bytes(raw)

    def manifest(self, variant: ReleasableVariant) -> bytes:
        """Return a published variant's manifest; SignedFilesError when its file was lost or changed."""
        folder, _, name = variant.target.rpartition("/")
        path = self.tuf_dir / "targets" / folder / f"{variant.manifest_sha256}.{name}"
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise SignedFilesError(f"{path} is missing") from error
        if hashlib.sha256(content).hexdigest() != variant.manifest_sha256:
            raise SignedFilesError(f"{path} is not the manifest that was signed")
        return content

    def is_published(self, release: Release) -> bool:
        """Tell whether the published role is what this release proposes."""
        present = self.published(release.model)
        return present is not None and present.signed_bytes == document_of(release).signed_bytes

    def is_stale(self, release: Release, now: datetime) -> bool:
        """Tell whether an open proposal can never be published any more: the role moved on, or the draft expired."""
        present, draft = self.published(release.model), document_of(release).signed
        moved_on = present is not None and present.signed.version >= draft.version
        return (moved_on or draft.expires <= now) and not self.is_published(release)


@dataclass(frozen=True)
class ReleaseRequest:
    """What somebody wants released."""

    model: str
    version: int
    variants: Sequence[str] | None = None
    """None: all that are published."""
    floor: int | None = None
    hardware: Sequence[str] = ()


@dataclass(frozen=True)
class Change:
    """What a proposal does to a role: the draft, and how history tells it."""

    model_id: ModelId
    model: str
    version: ModelVersion | None
    kind: ReleaseKind
    document: bytes
    told: str


def document_of(release: Release) -> Metadata[Targets]:
    """Return a release's document, which was parsed before it was stored."""
    return Metadata[Targets].from_bytes(release.document)


def propose_release(
    office: ReleaseOffice, request: ReleaseRequest, *, now: datetime, actor: str = "operator"
) -> ReleaseId:
    """Write the draft that puts variants of a version into the model's role, unsigned; return its id.

    InvalidInput: terms that no release can have. NotFound: model, version or variant; `release_role_missing`.
    Conflict: the version has no published variant, all of it is released on these terms, another proposal is open.
    """
    check_terms(request.version, request.floor, request.hardware)
    with office.database.reading() as tx:
        catalog.version_numbered(tx, request.model, request.version)
    office.ensure_role(request.model, now)
    with office.database.writing() as tx:
        lock_image_repository(tx, now)
        version = catalog.version_numbered(tx, request.model, request.version)
        variants = _chosen(tx, version, request.variants)
        document = office.image_repository.draft_release(
            request.model,
            add=[office.manifest(variant) for variant in variants],
            remove_version=None,
            floor=request.floor,
            hardware=request.hardware,
            now=now,
        )
        _refuse_no_change(office, version, document)
        names = ", ".join(variant.name for variant in variants)
        change = Change(version.model_id, version.model, version, ReleaseKind.RELEASE, document, names)
        return open_proposal(office, tx, change, now=now, actor=actor)


def open_proposal(office: ReleaseOffice, tx: Transaction, change: Change, *, now: datetime, actor: str) -> ReleaseId:
    """Write a proposal; Conflict names the one that is open. One that can never be published gives way."""
    before = releases.open_release(tx, change.model_id)
    if before is not None:
        if not office.is_stale(before, now):
            raise Conflict(
                f"the {before.subject} is proposed already as {before.id}: sign it, or cancel it with `edgefleet "
                f"release cancel {before.id}`",
                code="release_open",
            )
        end_proposal(tx, before, now=now, actor=actor, why="the role has moved on")
    release = Release(
        id=ReleaseId(new_id(PREFIXES[ReleaseId])),
        model_id=change.model_id,
        model=change.model,
        version_id=change.version.id if change.version else None,
        version=change.version.number if change.version else None,
        kind=change.kind,
        state=ReleaseState.PROPOSED,
        document=change.document,
        proposed_by=actor,
        proposed_at=now,
        ended_at=None,
    )
    releases.insert_release(tx, release)
    add_event(tx, now, actor, "release.proposed", release.id, f"{release.subject}: {change.told}")
    record_audit(tx, now, actor, "release.proposed", release.id, audit_detail(release))
    return release.id


def cancel_release(office: ReleaseOffice, release_id: str, *, now: datetime, actor: str = "operator") -> None:
    """End an open proposal. Conflict: it has ended, or enough people have signed it, so that it will be published."""
    with office.database.writing() as tx:
        lock_image_repository(tx, now)
        release = releases.release_by_id(tx, release_id, lock=True)
        transition(release.state, ReleaseEvent.CANCEL)
        if office.is_published(release):
            raise Conflict(f"the {release.subject} is published already", code="release_state")
        end_proposal(tx, release, now=now, actor=actor, why="cancelled")


def end_proposal(tx: Transaction, release: Release, *, now: datetime, actor: str, why: str) -> None:
    """Write that a proposal came to nothing."""
    state = transition(release.state, ReleaseEvent.CANCEL)
    releases.save_release(tx, replace(release, state=state, ended_at=now))
    add_event(tx, now, actor, "release.cancelled", release.id, f"{release.subject}: {why}")
    record_audit(tx, now, actor, "release.cancelled", release.id, {**audit_detail(release), "why": why})


def _chosen(tx: Transaction, version: ModelVersion, names: Sequence[str] | None) -> list[ReleasableVariant]:
    published = releases.releasable_variants(tx, version.model_id, version.number)
    if not published:
        raise Conflict(
            f"{version.model} version {version.number} has no published variant; wait until one is ready",
            code="version_not_ready",
        )
    known = {variant.name: variant for variant in published}
    missing = [name for name in names or () if name not in known]
    if missing:
        raise NotFound(
            f"{version.model} version {version.number} has no published variant {', '.join(missing)}; it has "
            f"{', '.join(known)}",
            code="variant_unknown",
            field="/variants",
        )
    return [known[name] for name in dict.fromkeys(names)] if names else published


def _refuse_no_change(office: ReleaseOffice, version: ModelVersion, document: bytes) -> None:
    present, draft = office.published(version.model), Metadata[Targets].from_bytes(document)
    if present is not None and present.signed.targets == draft.signed.targets:
        raise Conflict(
            f"{version.model} version {version.number} is released on these terms already; to sign it again before its "
            f"signatures expire: `edgefleet release renew {version.model}`",
            code="release_no_change",
        )


def audit_detail(release: Release) -> dict[str, object]:
    """Return what the audit log keeps of a release."""
    signed = document_of(release)
    return {
        "kind": release.kind,
        "model": release.model,
        "version": release.version,
        "role_version": signed.signed.version,
        "signed_sha256": hashlib.sha256(signed.signed_bytes).hexdigest(),
    }
