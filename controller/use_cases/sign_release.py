"""Take a signature for an open proposal, and publish it with the one that was missing.

The signature is committed first and alone. What follows can be cut off at any point and made again: files are written
in an order in which the last one counts (`controller.trust.images.publication`), rows say what the published role
says, and the sweep completes what it finds signed by enough people.
"""

from dataclasses import replace
from datetime import datetime

import structlog
from securesystemslib.signer import Signature
from tuf.api.metadata import TargetFile

from controller.domain.errors import Conflict, EdgefleetError
from controller.domain.releases import Release, ReleaseEvent, ReleaseKind, ReleaseState, transition
from controller.store import releases
from controller.store.audit import record_audit
from controller.store.database import Transaction, add_event, record_change
from controller.store.releases import ReleasableVariant, SignedTarget
from controller.store.variants import lock_image_repository
from controller.use_cases.propose_release import ReleaseOffice, document_of
from device_agent.protocol.channels import Channel
from device_agent.protocol.manifest import in_channel

_log = structlog.get_logger()


def sign_release(
    office: ReleaseOffice, release_id: str, signature: Signature, *, now: datetime, actor: str = "operator"
) -> Release:
    """Add a signature that verifies; publish when it was the last that was missing. Return the release as it is then.

    Conflict: the proposal has ended, or the role has moved on since. DocumentRefused (InvalidInput): a key that the
    role does not name, or a signature that is not over this draft.
    """
    with office.database.writing() as tx:
        release = releases.release_by_id(tx, release_id, lock=True)
        state = transition(release.state, ReleaseEvent.SIGN)
        refuse_stale(office, release, now)
        document = office.image_repository.add_signature(release.document, signature)
        if document != release.document:
            releases.save_release(tx, replace(release, state=state, document=document))
            told = f"{release.subject} by key {signature.keyid[:12]}"
            add_event(tx, now, actor, "release.signed", release.id, told)
            record_audit(tx, now, actor, "release.signed", release.id, {"keyid": signature.keyid})
    return complete_release(office, release_id, now=now, actor=actor)


def complete_release(office: ReleaseOffice, release_id: str, *, now: datetime, actor: str) -> Release:
    """Publish a proposal that enough people have signed, files first, and make the rows follow; else do nothing."""
    with office.database.writing() as tx:
        lock_image_repository(tx, now)
        release = releases.release_by_id(tx, release_id, lock=True)
        if release.state is not ReleaseState.PROPOSED:
            return release
        status = office.image_repository.release_status(release.document)
        variants = releases.releasable_variants(tx, release.model_id)
        if not office.is_published(release):
            if not status.is_complete:
                return release
            refuse_stale(office, release, now)
            manifests = _manifests(office, release, variants)
            office.image_repository.publish_release(release.document, manifests, now)
        return _write_rows(tx, release, variants, now, actor)


def complete_releases(office: ReleaseOffice, *, now: datetime) -> int:
    """Complete what was cut off; return how many releases that were. Nothing is done when nothing waits."""
    with office.database.reading() as tx:
        waiting = releases.open_releases(tx)
    completed = 0
    for release in waiting:
        try:
            ended = complete_release(office, release.id, now=now, actor="sweep")
        except Conflict:
            continue  # it is stale, which whoever looks at it is told
        except EdgefleetError as error:
            _log.warning("a release could not be completed", release=release.id, reason=error.detail)
            continue
        completed += ended.state is ReleaseState.PUBLISHED
    return completed


def refuse_stale(office: ReleaseOffice, release: Release, now: datetime) -> None:
    """Raise Conflict for a draft that the published role has moved past, or that has expired."""
    if office.is_stale(release, now):
        again = {
            ReleaseKind.RELEASE: f"release propose {release.model} {release.version}",
            ReleaseKind.WITHDRAW: f"release withdraw {release.model} {release.version}",
            ReleaseKind.RENEW: f"release renew {release.model}",
        }[release.kind]
        raise Conflict(
            f"the draft of {release.id} can no longer be published: the role has moved on, or the draft has expired; "
            f"propose it again: `edgefleet {again}`",
            code="release_stale",
        )


def _manifests(office: ReleaseOffice, release: Release, variants: list[ReleasableVariant]) -> list[bytes]:
    """Return the manifests of the version that is released; those of the others were published before."""
    listed = {in_channel(path, Channel.DEV) for path in document_of(release).signed.targets}
    concerned = [variant for variant in variants if variant.version == release.version and variant.target in listed]
    return [office.manifest(variant) for variant in concerned]


def _write_rows(
    tx: Transaction, release: Release, variants: list[ReleasableVariant], now: datetime, actor: str
) -> Release:
    document = document_of(release).signed
    signed = {in_channel(path, Channel.DEV): _signed_target(target) for path, target in document.targets.items()}
    came, went = releases.write_released(tx, variants, signed, now)
    ended = replace(release, state=transition(release.state, ReleaseEvent.PUBLISH), ended_at=now)
    releases.save_release(tx, ended)
    told = [f"{', '.join(names)} {what}" for names, what in ((came, "released"), (went, "withdrawn")) if names]
    words = "; ".join(told) or f"good until {document.expires:%Y-%m-%d}"
    add_event(tx, now, actor, "release.published", release.id, f"{release.subject}: {words}")
    detail = {
        "kind": release.kind,
        "model": release.model,
        "version": release.version,
        "role_version": document.version,
    }
    record_audit(tx, now, actor, "release.published", release.id, detail)
    record_change(tx, now)
    return ended


def _signed_target(target: TargetFile) -> SignedTarget:
    custom = target.custom or {}
    return SignedTarget(target.hashes["sha256"], custom.get("floor"), tuple(custom.get("hw", ())))
