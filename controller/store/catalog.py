"""Queries about models and their versions."""

from sqlalchemy import Connection, Row, func, insert, select

from controller.domain.catalog import ModelVersion, VariantState
from controller.domain.errors import NotFound
from controller.domain.ids import ModelId, VersionId
from controller.store import tables
from controller.store.tables import Row as NewRow

_model, _version, _variant = tables.model, tables.model_version, tables.variant
_versions = select(_version, _model.c.name.label("model"), _model.c.sealed).join(
    _model, _model.c.id == _version.c.model_id
)


def insert_model(tx: Connection, row: NewRow) -> None:
    """Write a model."""
    tx.execute(insert(_model).values(row))


def model_named(tx: Connection, name: str) -> ModelId:
    """Return the id of the model; NotFound names what was asked for."""
    found = tx.execute(select(_model.c.id).where(_model.c.name == name)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no model {name!r}", code="model_unknown")
    return ModelId(found)


def has_model(tx: Connection, name: str) -> bool:
    """Tell whether the name is taken."""
    return tx.execute(select(_model.c.id).where(_model.c.name == name)).first() is not None


def version_numbered(tx: Connection, model: str, number: int) -> ModelVersion:
    """Return one version of a model; NotFound names what is missing."""
    model_id = model_named(tx, model)
    row = tx.execute(_versions.where(_version.c.model_id == model_id, _version.c.number == number)).one_or_none()
    if row is None:
        raise NotFound(f"the model {model} has no version {number}", code="version_unknown")
    return _as_version(row)


def version_by_id(tx: Connection, version_id: VersionId) -> ModelVersion:
    """Return a version that is known to exist."""
    return _as_version(tx.execute(_versions.where(_version.c.id == version_id)).one())


def published_count(tx: Connection, version_id: VersionId) -> int:
    """Return how many variants of the version devices may run."""
    published = select(func.count()).where(
        _variant.c.version_id == version_id, _variant.c.state == VariantState.PUBLISHED
    )
    return tx.execute(published).scalar_one()


def _as_version(row: "Row[tuple[object, ...]]") -> ModelVersion:
    return ModelVersion(
        id=VersionId(row.id),
        model_id=ModelId(row.model_id),
        model=row.model,
        number=row.number,
        format=row.format,
        artifact_sha256=row.artifact_sha256,
        evaluation_sha256=row.evaluation_sha256,
        calibration_sha256=row.calibration_sha256,
        promise=row.promise,
        inspection=row.inspection,
        notes=row.notes,
        created_at=row.created_at,
        sealed=row.sealed,
    )
