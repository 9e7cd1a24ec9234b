"""Show releases: what an open one changes, who has signed it and who may; all that a signer needs to check it."""

import base64
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from tuf.api.metadata import TargetFile, Targets

from controller.domain.ids import VersionId
from controller.domain.releases import Release, ReleaseState
from controller.store import catalog, releases
from controller.store.artifacts import artifact_bytes
from controller.trust.images.image_roles import release_role
from controller.use_cases.propose_release import ReleaseOffice, document_of
from device_agent.protocol.channels import Channel
from device_agent.protocol.fields import format_utc
from device_agent.protocol.manifest import in_channel

Document = dict[str, Any]


def list_releases(office: ReleaseOffice, limit: int, *, now: datetime) -> list[Document]:
    """Return the newest releases, newest first."""
    with office.database.reading() as tx:
        found = releases.newest_releases(tx, limit)
    return [_summary(office, release, now) for release in found]


def show_release(office: ReleaseOffice, release_id: str, *, now: datetime) -> Document:
    """Return one release; an open one with its document, its manifests and what it was measured with."""
    with office.database.reading() as tx:
        release = releases.release_by_id(tx, release_id)
        manifests = _manifests(office, tx, release) if release.state is ReleaseState.PROPOSED else {}
        data = _data(tx, release.version_id) if release.version_id else None
    published = office.published(release.model)
    return {
        **_summary(office, release, now),
        "document": base64.b64encode(release.document).decode(),
        "published_version": published.signed.version if published else 0,
        "changes": _changes(published.signed if published else None, document_of(release).signed),
        "manifests": {path: base64.b64encode(content).decode() for path, content in manifests.items()},
        **(data or {"data": None, "promise": None}),
    }


def _summary(office: ReleaseOffice, release: Release, now: datetime) -> Document:
    document = document_of(release)
    is_open = release.state is ReleaseState.PROPOSED
    return {
        "id": release.id,
        "model": release.model,
        "version": release.version,
        "kind": release.kind,
        "state": release.state,
        "stale": is_open and office.is_stale(release, now),
        "proposed_by": release.proposed_by,
        "proposed_at": release.proposed_at,
        "ended_at": release.ended_at,
        "role": release_role(release.model),
        "role_version": document.signed.version,
        "expires": format_utc(document.signed.expires),
        "signatures": _signatures(office, release) if is_open else _former_signatures(list(document.signatures)),
    }


def _signatures(office: ReleaseOffice, release: Release) -> Document:
    status = office.image_repository.release_status(release.document)
    return {
        "threshold": status.threshold,
        "needed": status.missing,
        "signed": list(status.signed),
        "may_sign": [keyid for keyid in status.keyids if keyid not in status.signed],
    }


def _former_signatures(keyids: list[str]) -> Document:
    # Keys and thresholds may have changed since: what the document carries is all that can be said of it.
    return {"threshold": None, "needed": 0, "signed": keyids, "may_sign": []}


def _manifests(office: ReleaseOffice, tx: Connection, release: Release) -> dict[str, bytes]:
    if release.version is None:
        return {}
    listed = document_of(release).signed.targets
    published = office.published(release.model)
    before = published.signed.targets if published else {}
    found = {}
    for variant in releases.releasable_variants(tx, release.model_id, release.version):
        path = in_channel(variant.target, Channel.PROD)
        if path in listed and before.get(path) != listed[path]:
            found[path] = office.manifest(variant)
    return found


def _data(tx: Connection, version_id: VersionId) -> Document:
    version = catalog.version_by_id(tx, version_id)
    sha256 = version.evaluation_sha256
    return {
        "data": {
            "source_sha256": version.artifact_sha256,
            "source_bytes": artifact_bytes(tx, version.artifact_sha256),
            "evaluation_sha256": sha256,
            "evaluation_bytes": artifact_bytes(tx, sha256) if sha256 else None,
        },
        "promise": version.promise,
    }


def _changes(published: Targets | None, proposed: Targets) -> Document:
    before, after = published.targets if published else {}, proposed.targets
    return {
        "added": [_target(after[path]) for path in sorted(after) if path not in before],
        "changed": [_target(after[path]) for path in sorted(after) if path in before and before[path] != after[path]],
        "removed": sorted(set(before) - set(after)),
    }


def _target(target: TargetFile) -> Document:
    return {
        "path": target.path,
        "sha256": target.hashes["sha256"],
        "length": target.length,
        "custom": target.custom or {},
    }
