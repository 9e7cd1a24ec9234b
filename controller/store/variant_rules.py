"""Queries about the operators' rules on variants."""

from datetime import datetime

from sqlalchemy import Connection, select

from controller.domain.errors import NotFound
from controller.domain.ids import GroupId, ModelId, VariantRuleId
from controller.domain.variant_rules import RuleKind, VariantRule
from controller.store import tables
from controller.store.database import upsert

_rule, _model = tables.variant_rule, tables.model


def all_rules(tx: Connection) -> tuple[VariantRule, ...]:
    """Return every rule."""
    query = select(_rule, _model.c.name.label("model")).join(_model, _model.c.id == _rule.c.model_id)
    return tuple(
        VariantRule(
            VariantRuleId(row.id),
            row.model,
            GroupId(row.group_id),
            row.variant,
            RuleKind(row.kind),
            row.decided_at,
        )
        for row in tx.execute(query.order_by(_rule.c.id))
    )


def put_rule(
    tx: Connection,
    rule_id: VariantRuleId,
    model_id: ModelId,
    group_id: GroupId,
    variant: str,
    kind: RuleKind,
    now: datetime,
) -> VariantRuleId:
    """Set the rule of (model, group, variant); return its id, which stays the same when the rule is changed."""
    decided = {"kind": kind, "decided_at": now}
    change = upsert(tx, _rule).values(id=rule_id, model_id=model_id, group_id=group_id, variant=variant, **decided)
    changed = change.on_conflict_do_update(index_elements=["model_id", "group_id", "variant"], set_=decided)
    return VariantRuleId(tx.execute(changed.returning(_rule.c.id)).scalar_one())


def delete_rule(tx: Connection, model_id: ModelId, group_id: GroupId, variant: str) -> VariantRuleId:
    """Remove the rule and return the id that it had; NotFound names the variant."""
    same = (_rule.c.model_id == model_id, _rule.c.group_id == group_id, _rule.c.variant == variant)
    found = tx.execute(_rule.delete().where(*same).returning(_rule.c.id)).scalar_one_or_none()
    if found is None:
        raise NotFound(f"there is no rule about variant {variant!r} for this group", code="variant_rule_unknown")
    return VariantRuleId(found)
