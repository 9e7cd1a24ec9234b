"""Queries about releases, and about which variants the role of their model holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, insert, select, update

from controller.domain.catalog import VariantState
from controller.domain.errors import Conflict, NotFound
from controller.domain.ids import ModelId, ReleaseId, VariantId, VersionId
from controller.domain.releases import Release, ReleaseKind, ReleaseState
from controller.store import tables, trust_tables

_release, _model, _version, _variant = trust_tables.release, tables.model, tables.model_version, tables.variant
_releases = (
    select(_release, _model.c.name.label("model"), _version.c.number)
    .join(_model, _model.c.id == _release.c.model_id)
    .outerjoin(_version, _version.c.id == _release.c.version_id)
)


@dataclass(frozen=True)
class ReleasableVariant:
    """A published variant, and how it stands to the channel `prod`."""

    id: VariantId
    name: str
    version: int
    target: str
    """Its path in the channel `dev`."""
    manifest_sha256: str
    released_at: datetime | None
    release_floor: int | None
    release_hardware: tuple[str, ...]


@dataclass(frozen=True)
class SignedTarget:
    """What the published role says of a variant."""

    sha256: str
    floor: int | None
    hardware: tuple[str, ...] = ()


def insert_release(tx: Connection, release: Release) -> None:
    """Write a new proposal."""
    stored = {name: value for name, value in vars(release).items() if name not in ("model", "version")}
    tx.execute(insert(_release).values(stored))


def release_by_id(tx: Connection, release_id: str, *, lock: bool = False) -> Release:
    """Return a release; NotFound names the id. `lock` keeps other writers out until the commit."""
    query = _releases.where(_release.c.id == release_id)
    row = tx.execute(query.with_for_update(of=_release) if lock else query).one_or_none()
    if row is None:
        raise NotFound(f"there is no release {release_id!r}; see `edgefleet release list`", code="release_unknown")
    return _as_release(row)


def open_release(tx: Connection, model_id: ModelId) -> Release | None:
    """Return the model's open proposal."""
    row = tx.execute(_releases.where(_release.c.model_id == model_id, _is_open())).one_or_none()
    return None if row is None else _as_release(row)


def open_releases(tx: Connection) -> list[Release]:
    """Return every open proposal, oldest first."""
    return [_as_release(row) for row in tx.execute(_releases.where(_is_open()).order_by(_release.c.proposed_at))]


def proposed_versions(tx: Connection, version_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the versions whose release is proposed."""
    query = select(_release.c.version_id).where(
        _is_open(), _release.c.kind == ReleaseKind.RELEASE, _release.c.version_id.in_(version_ids)
    )
    return frozenset(tx.execute(query).scalars())


def newest_releases(tx: Connection, limit: int) -> list[Release]:
    """Return the newest releases, newest first."""
    query = _releases.order_by(_release.c.proposed_at.desc(), _release.c.id.desc()).limit(limit)
    return [_as_release(row) for row in tx.execute(query)]


def save_release(tx: Connection, release: Release) -> None:
    """Write what may change in an open proposal; Conflict when it has ended meanwhile."""
    changed = {"state": release.state, "document": release.document, "ended_at": release.ended_at}
    found = and_(_release.c.id == release.id, _is_open())
    if tx.execute(update(_release).where(found).values(changed)).rowcount != 1:
        raise Conflict(f"the release {release.id} has ended meanwhile", code="release_state")


def releasable_variants(tx: Connection, model_id: ModelId, number: int | None = None) -> list[ReleasableVariant]:
    """Return the model's published variants, those of one version where its number is given."""
    query = (
        select(_variant, _version.c.number)
        .join(_version, _version.c.id == _variant.c.version_id)
        .where(_version.c.model_id == model_id, _variant.c.state == VariantState.PUBLISHED)
        .order_by(_version.c.number, _variant.c.recipe)
    )
    rows = tx.execute(query if number is None else query.where(_version.c.number == number))
    return [
        ReleasableVariant(
            VariantId(row.id),
            row.recipe,
            row.number,
            row.target,
            row.manifest_sha256,
            row.released_at,
            row.release_floor,
            tuple(row.release_hardware or ()),
        )
        for row in rows
    ]


def write_released(
    tx: Connection, variants: list[ReleasableVariant], signed: Mapping[str, SignedTarget], now: datetime
) -> tuple[list[str], list[str]]:
    """Make the rows of a model's variants say what the role says; return the names that came in and that went out.

    `signed` has the role's targets by their path in the channel `dev`. A variant that stays keeps its moment.
    """
    came, went = [], []
    for variant in variants:
        target = signed.get(variant.target)
        holds = target is not None and target.sha256 == variant.manifest_sha256
        floor, hardware = (target.floor, target.hardware) if target and holds else (None, ())
        released_at = (variant.released_at or now) if holds else None
        if (released_at, floor, hardware) == (variant.released_at, variant.release_floor, variant.release_hardware):
            continue
        values = {"released_at": released_at, "release_floor": floor, "release_hardware": list(hardware) or None}
        tx.execute(update(_variant).where(_variant.c.id == variant.id).values(values))
        name = f"version {variant.version} {variant.name}"
        if holds and variant.released_at is None:
            came.append(name)
        elif not holds:
            went.append(name)
    return came, went


def _is_open() -> Any:
    return _release.c.state == ReleaseState.PROPOSED


def _as_release(row: Any) -> Release:
    return Release(
        id=ReleaseId(row.id),
        model_id=ModelId(row.model_id),
        model=row.model,
        version_id=row.version_id and VersionId(row.version_id),
        version=row.number,
        kind=ReleaseKind(row.kind),
        state=ReleaseState(row.state),
        document=bytes(row.document),
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        ended_at=row.ended_at,
    )
