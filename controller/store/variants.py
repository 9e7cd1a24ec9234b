"""Queries about variants: making them, and the leases under which workers move them on.

A worker claims a variant for a while and renews the claim as it works. Every claim counts one attempt, so that a
model which kills its workers runs out of attempts. What a worker writes is fenced: it counts only while the claim
is still the newest one, so a worker that was thought dead cannot disturb its successor.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from controller.domain.catalog import (
    ATTEMPTS_MAX,
    NEXT_TASK,
    PublishedVariant,
    VariantEvent,
    VariantState,
    transition,
)
from controller.domain.costs import Cost
from controller.domain.errors import Conflict, NotFound
from controller.domain.ids import ModelId, SearchId, VariantId, VersionId
from controller.store import tables
from controller.store.tables import Row
from device_agent.protocol.channels import Channel
from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import Runtime, in_channel

_model, _version, _variant = tables.model, tables.model_version, tables.variant
_ERROR_MAX = 2000


class LeaseLost(Conflict):
    """Another worker has the variant now; what this one found is not wanted any more."""

    code = "lease_lost"


@dataclass(frozen=True)
class Claim:
    """A variant that one worker may move on, as it was when it was claimed."""

    id: VariantId
    version_id: VersionId
    recipe: str
    state: VariantState
    owner: str
    attempts: int
    """This claim included; with `owner` it tells this claim from every other."""
    recipe_document: dict[str, Any] | None
    """The recipe as it was when the variant was asked for; None for opaque ones."""
    search_id: SearchId | None
    """The search that asked for it; None when it was asked for by name."""
    artifact_sha256: str | None
    golden_sha256: str | None
    files: dict[str, dict[str, Any]] | None
    facts: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    costs: dict[str, Any] | None


@dataclass(frozen=True)
class Waiting:
    """A variant that has work left and no worker."""

    id: VariantId
    version_id: VersionId
    recipe: str
    state: VariantState
    attempts: int
    error: str | None


def next_number(tx: Connection, model_id: ModelId) -> int:
    """Return the number of the model's next version, and keep others from taking it until the commit."""
    tx.execute(select(_model.c.id).where(_model.c.id == model_id).with_for_update())
    newest = select(func.coalesce(func.max(_version.c.number), 0)).where(_version.c.model_id == model_id)
    number: int = tx.execute(newest).scalar_one()
    return number + 1


def insert_version(tx: Connection, version: Row, variants: Sequence[Row]) -> None:
    """Write a version with its variants."""
    tx.execute(insert(_version).values(version))
    insert_variants(tx, variants)


def insert_variants(tx: Connection, variants: Sequence[Row]) -> None:
    """Write variants of a version that exists."""
    if variants:
        tx.execute(insert(_variant), list(variants))


def variant_of(tx: Connection, version_id: VersionId, name: str) -> VariantId:
    """Return the id of a version's variant; NotFound names it and those that exist."""
    query = select(_variant.c.recipe, _variant.c.id).where(_variant.c.version_id == version_id)
    found = {row.recipe: VariantId(row.id) for row in tx.execute(query.order_by(_variant.c.recipe))}
    if name not in found:
        raise NotFound(f"there is no variant {name!r}; the version has {', '.join(found)}", code="variant_unknown")
    return found[name]


def claim(
    tx: Connection, variant_id: VariantId, state: VariantState, owner: str, *, until: datetime, now: datetime
) -> Claim | None:
    """Claim the variant if it is in `state`, has no worker and attempts left; None otherwise.

    The row is locked in a common table expression: a plain sub-select could be run again by PostgreSQL's planner
    and lock another set of rows than it updates.
    """
    picked = (
        select(_variant.c.id)
        .where(_variant.c.id == variant_id, _variant.c.state == state, _free(now), _variant.c.attempts < ATTEMPTS_MAX)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    taken = (
        update(_variant)
        .where(_variant.c.id.in_(select(picked.c.id)))
        .values(lease_owner=owner, lease_until=until, attempts=_variant.c.attempts + 1, updated_at=now)
        .returning(_variant)
    )
    row = tx.execute(taken).one_or_none()
    if row is None:
        return None
    return Claim(
        id=VariantId(row.id),
        version_id=VersionId(row.version_id),
        recipe=row.recipe,
        state=VariantState(row.state),
        owner=row.lease_owner,
        attempts=row.attempts,
        recipe_document=row.recipe_document,
        search_id=SearchId(row.search_id) if row.search_id else None,
        artifact_sha256=row.artifact_sha256,
        golden_sha256=row.golden_sha256,
        files=row.files,
        facts=row.facts,
        evaluation=row.evaluation,
        costs=row.costs,
    )


def renew(tx: Connection, claimed: Claim, progress: Row | None, *, until: datetime) -> None:
    """Keep the claim and say how far the work is; LeaseLost when it is not the newest claim any more."""
    _write_fenced(tx, claimed, lease_until=until, progress=progress)


def finish(tx: Connection, claimed: Claim, state: VariantState, values: Row, now: datetime) -> None:
    """Move the variant to `state` with what was found, free it and count attempts anew; LeaseLost as in `renew`."""
    freed = {"lease_owner": None, "lease_until": None, "attempts": 0, "error": None, "progress": None}
    _write_fenced(tx, claimed, **{**freed, **values, "state": state, "updated_at": now})


def put_back(tx: Connection, claimed: Claim, error: str, *, again_at: datetime, now: datetime) -> None:
    """Free the variant for another attempt from `again_at` on; LeaseLost as in `renew`."""
    freed = {"lease_owner": None, "lease_until": again_at, "progress": None}
    _write_fenced(tx, claimed, **freed, error=error[:_ERROR_MAX], updated_at=now)


def move(
    tx: Connection, variant_id: VariantId, event: VariantEvent, now: datetime, values: Row | None = None
) -> VariantState:
    """Apply an operator's event to a variant, whoever holds it; Conflict when its state has no such move.

    Whatever a worker finds meanwhile is fenced off, because the state is another.
    """
    query = select(_variant.c.state).where(_variant.c.id == variant_id).with_for_update()
    state = transition(VariantState(tx.execute(query).scalar_one()), event)
    freed = {"lease_owner": None, "lease_until": None, "attempts": 0, "progress": None}
    changed = {**freed, **(values or {}), "state": state, "updated_at": now}
    tx.execute(update(_variant).where(_variant.c.id == variant_id).values(changed))
    return state


def due_variants(tx: Connection, now: datetime, at_most: int) -> list[Waiting]:
    """Return variants that have work left, attempts left and no worker, those that wait longest first."""
    return _waiting(tx, now, _variant.c.attempts < ATTEMPTS_MAX, at_most)


def exhausted_variants(tx: Connection, now: datetime, at_most: int) -> list[Waiting]:
    """Return variants that have work left, no worker and no attempts left."""
    return _waiting(tx, now, _variant.c.attempts >= ATTEMPTS_MAX, at_most)


def _waiting(tx: Connection, now: datetime, condition: ColumnElement[bool], at_most: int) -> list[Waiting]:
    columns = (_variant.c[name] for name in ("id", "version_id", "recipe", "state", "attempts", "error"))
    query = (
        select(*columns)
        .where(_variant.c.state.in_([*NEXT_TASK]), _free(now), condition)
        .order_by(_variant.c.updated_at, _variant.c.id)
        .limit(at_most)
    )
    return [
        Waiting(
            VariantId(row.id), VersionId(row.version_id), row.recipe, VariantState(row.state), row.attempts, row.error
        )
        for row in tx.execute(query)
    ]


def give_up(tx: Connection, exhausted: Waiting, state: VariantState, error: str, now: datetime) -> bool:
    """End a variant that has no attempts left, unless something has changed since it was read."""
    unchanged = and_(
        _variant.c.id == exhausted.id,
        _variant.c.state == exhausted.state,
        _variant.c.attempts == exhausted.attempts,
        _free(now),
    )
    values = {"state": state, "error": error[:_ERROR_MAX], "lease_owner": None, "lease_until": None, "updated_at": now}
    return tx.execute(update(_variant).where(unchanged).values(values)).rowcount == 1


def lock_image_repository(tx: Connection, now: datetime) -> None:
    """Let one publication at a time pass, across all workers, until the commit."""
    table = tables.image_repository
    tx.execute(select(table.c.id).where(table.c.id == 1).with_for_update())
    tx.execute(update(table).where(table.c.id == 1).values(published_at=now))


def published_variants(
    tx: Connection, version_ids: Sequence[VersionId]
) -> dict[VersionId, tuple[PublishedVariant, ...]]:
    """Return what devices may run of each version; versions without a published variant are left out."""
    query = (
        select(_variant, _version.c.number)
        .join(_version, _version.c.id == _variant.c.version_id)
        .where(_variant.c.version_id.in_(version_ids), _variant.c.state == VariantState.PUBLISHED)
        .order_by(_variant.c.id)
    )
    found: dict[VersionId, tuple[PublishedVariant, ...]] = {}
    for row in tx.execute(query):
        version_id = VersionId(row.version_id)
        variant = PublishedVariant(
            id=VariantId(row.id),
            version_id=version_id,
            name=row.recipe,
            runtime=Runtime.read(Fields(row.runtime, "runtime")),
            target=in_channel(row.target, Channel.PROD) if row.released_at else row.target,
            release=row.number,
            released=row.released_at is not None,
            hardware=tuple(row.release_hardware or ()),
            content_key=row.content_key,
            manifest_sha256=row.manifest_sha256,
            manifest_bytes=row.manifest_bytes,
            wire_bytes=row.wire_bytes,
            costs={name: Cost.from_json(cost) for name, cost in (row.costs or {}).items()},
        )
        found[version_id] = (*found.get(version_id, ()), variant)
    return found


def published_in_clear(tx: Connection, digests: Iterable[str]) -> set[str]:
    """Return those of the artifacts that a published variant of a model that is not sealed consists of."""
    query = (
        select(_variant.c.artifact_sha256, _variant.c.golden_sha256, _variant.c.files, _version.c.artifact_sha256)
        .join(_version, _version.c.id == _variant.c.version_id)
        .where(_variant.c.state == VariantState.PUBLISHED, _variant.c.content_key.is_(None))
    )
    wanted, found = set(digests), set[str]()
    for main, golden, files, source in tx.execute(query):
        entries = [*(files or {}).values()]
        packed = [entry["packed"] for entry in entries if entry.get("packed")]
        named = {main, golden, *(entry["sha256"] for entry in (*entries, *packed))}
        # What is not compressed consists of the upload itself.
        found |= wanted & (named if files else {*named, source})
    return found


def targets_of(tx: Connection, manifests: Iterable[str]) -> list[str]:
    """Return the target paths of published manifests, which name model, version and variant; sorted."""
    query = select(_variant.c.target).where(_variant.c.manifest_sha256.in_(list(manifests)))
    return sorted(tx.execute(query).scalars())


def _free(now: datetime) -> ColumnElement[bool]:
    return or_(_variant.c.lease_until.is_(None), _variant.c.lease_until <= now)


def _write_fenced(tx: Connection, claimed: Claim, **values: Any) -> None:
    fence = and_(
        _variant.c.id == claimed.id,
        _variant.c.state == claimed.state,
        _variant.c.lease_owner == claimed.owner,
        _variant.c.attempts == claimed.attempts,
    )
    if tx.execute(update(_variant).where(fence).values(values)).rowcount != 1:
        raise LeaseLost(
            f"variant {claimed.id} was cancelled, or taken over by another worker, in its attempt {claimed.attempts}"
        )
