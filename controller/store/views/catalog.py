"""Models, versions and variants as the API shows them."""

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, func, select

from controller.domain.catalog import NEXT_TASK, VariantState
from controller.domain.errors import NotFound
from controller.domain.ids import VersionId
from controller.domain.releases import version_release
from controller.store import catalog, tables
from controller.store.releases import proposed_versions

Document = dict[str, Any]
_model, _version, _variant, _artifact = tables.model, tables.model_version, tables.variant, tables.artifact

SHOWN = (
    "id",
    "recipe",
    "state",
    "progress",
    "error",
    "wire_bytes",
    "files",
    "evaluation",
    "costs",
    "facts",
    "manifest_sha256",
    "attempts",
    "search_id",
    "released_at",
    "release_floor",
)
"""What is shown of a variant."""


def models(tx: Connection, name: str | None = None) -> list[Document]:
    """Return the models with their newest version's number, by name."""
    newest = func.max(_version.c.number).label("newest_version")
    query = select(_model, newest).outerjoin(_version, _version.c.model_id == _model.c.id).group_by(_model.c.id)
    if name is not None:
        query = query.where(_model.c.name == name)
    return [dict(row) for row in tx.execute(query.order_by(_model.c.name)).mappings()]


def model(tx: Connection, name: str) -> Document:
    """Return one model; NotFound names what was asked for."""
    found = models(tx, name)
    if not found:
        raise NotFound(f"there is no model {name!r}", code="model_unknown")
    return found[0]


def versions(tx: Connection, model_name: str) -> list[Document]:
    """Return the versions of a model with their variants, newest first."""
    model(tx, model_name)
    return _versions(tx, _model.c.name == model_name)


def version(tx: Connection, version_id: VersionId) -> Document:
    """Return one version that exists."""
    return _versions(tx, _version.c.id == version_id)[0]


def version_with_layers(tx: Connection, version_id: VersionId) -> Document:
    """Return one version that exists, with the layers of every variant among its facts."""
    return _versions(tx, _version.c.id == version_id, with_layers=True)[0]


def version_numbered(tx: Connection, model_name: str, number: int) -> Document:
    """Return one version of a model; NotFound names what is missing."""
    return version(tx, catalog.version_numbered(tx, model_name, number).id)


def _versions(tx: Connection, condition: Any, *, with_layers: bool = False) -> list[Document]:
    query = (
        select(_version, _model.c.name.label("model"), _artifact.c.size_bytes)
        .join(_model, _model.c.id == _version.c.model_id)
        .join(_artifact, _artifact.c.sha256 == _version.c.artifact_sha256)
        .where(condition)
        .order_by(_version.c.number.desc())
    )
    rows = tx.execute(query).all()
    variants = _variants(tx, [row.id for row in rows], with_layers=with_layers)
    proposed = proposed_versions(tx, [row.id for row in rows])
    return [
        {
            "id": row.id,
            "model": row.model,
            "number": row.number,
            "format": row.format,
            "state": _state(variants[row.id]),
            "release": version_release(
                [variant["released_at"] is not None for variant in variants[row.id]], proposed=row.id in proposed
            ),
            "artifact": {"sha256": row.artifact_sha256, "size_bytes": row.size_bytes},
            "evaluation_sha256": row.evaluation_sha256,
            "calibration_sha256": row.calibration_sha256,
            "promise": row.promise,
            "inspection": row.inspection,
            "notes": row.notes,
            "created_at": row.created_at,
            "variants": variants[row.id],
        }
        for row in rows
    ]


def _variants(tx: Connection, version_ids: list[str], *, with_layers: bool) -> dict[str, list[Document]]:
    query = select(_variant.c.version_id, *(_variant.c[name] for name in SHOWN))
    found: dict[str, list[Document]] = defaultdict(list)
    rows = tx.execute(query.where(_variant.c.version_id.in_(version_ids)).order_by(_variant.c.recipe))
    for row in rows.mappings():
        facts = row["facts"] if with_layers else _without_layers(row["facts"])
        found[row["version_id"]].append({name: row[name] for name in SHOWN} | {"facts": facts})
    return found


def _without_layers(facts: Document | None) -> Document | None:
    # Some hundred layers a variant are the report's matter; here they would be sent with every look at a list.
    return facts and {name: fact for name, fact in facts.items() if name != "layers"}


def _state(variants: list[Document]) -> str:
    # What a search tries says nothing about the version; only what it chose was published.
    asked = [variant for variant in variants if variant["search_id"] is None] or variants
    if any(VariantState(variant["state"]) in NEXT_TASK for variant in asked):
        return "processing"
    states = [VariantState(variant["state"]) for variant in variants]
    return "ready" if VariantState.PUBLISHED in states else "failed"
