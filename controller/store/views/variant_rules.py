"""Rules on variants as the API shows them."""

from typing import Any

from sqlalchemy import Connection, func, select

from controller.domain.catalog import VariantState
from controller.domain.ids import ModelId
from controller.store import tables

Document = dict[str, Any]
_rule, _model, _group = tables.variant_rule, tables.model, tables.device_group


def variant_rules(tx: Connection, model_id: ModelId) -> list[Document]:
    """Return the model's rules by variant and group, each with the number of versions that have the variant."""
    published = _published(tx, model_id)
    query = (
        select(
            _rule.c.id,
            _model.c.name.label("model"),
            _group.c.name.label("group"),
            _rule.c.variant,
            _rule.c.kind,
            _rule.c.decided_at,
        )
        .join(_model, _model.c.id == _rule.c.model_id)
        .join(_group, _group.c.id == _rule.c.group_id)
        .where(_rule.c.model_id == model_id)
        .order_by(_rule.c.variant, _group.c.name)
    )
    return [{**row, "versions": published.get(row["variant"], 0)} for row in tx.execute(query).mappings()]


def _published(tx: Connection, model_id: ModelId) -> dict[str, int]:
    variant, version = tables.variant, tables.model_version
    query = (
        select(variant.c.recipe, func.count().label("versions"))
        .join(version, version.c.id == variant.c.version_id)
        .where(version.c.model_id == model_id, variant.c.state == VariantState.PUBLISHED)
        .group_by(variant.c.recipe)
    )
    return {row.recipe: row.versions for row in tx.execute(query)}
