"""Pin a variant of a model for a group, forbid it, or take such a rule back.

A rule speaks of every version of the model, also of those that come later. It may name a variant that no version has
yet: forbidding one before it exists is what keeps it from ever reaching a device.
"""

from datetime import datetime

from controller.domain.ids import PREFIXES, VariantRuleId
from controller.domain.variant_rules import RuleKind
from controller.store import catalog, groups, variant_rules
from controller.store.audit import record_audit
from controller.store.database import Database, add_event, record_change
from controller.use_cases.create_model import check_name
from controller.use_cases.identity import new_id

TOLD = {RuleKind.PIN: "must run", RuleKind.FORBID: "must not run"}


def set_variant_rule(
    database: Database,
    model: str,
    variant: str,
    group_name: str,
    kind: RuleKind,
    *,
    now: datetime,
    actor: str = "operator",
) -> VariantRuleId:
    """Set the rule; it replaces the one about the same variant and group. NotFound: no such model or group."""
    check_name(variant)
    with database.writing() as tx:
        model_id = catalog.model_named(tx, model)
        group = groups.group_named(tx, group_name)
        wanted = VariantRuleId(new_id(PREFIXES[VariantRuleId]))
        rule_id = variant_rules.put_rule(tx, wanted, model_id, group.id, variant, kind, now)
        told = f"group {group.name} {TOLD[kind]} variant {variant} of {model}"
        add_event(tx, now, actor, f"variant_rule.{kind}", rule_id, told)
        about = {"model": model, "variant": variant, "group": group_name, "kind": kind}
        record_audit(tx, now, actor, "variant_rule.set", rule_id, about)
        record_change(tx, now)
    return rule_id


def release_variant_rule(
    database: Database, model: str, variant: str, group_name: str, *, now: datetime, actor: str = "operator"
) -> None:
    """Remove the rule about the variant; NotFound: no such model, group or rule."""
    with database.writing() as tx:
        model_id = catalog.model_named(tx, model)
        group = groups.group_named(tx, group_name)
        rule_id = variant_rules.delete_rule(tx, model_id, group.id, variant)
        told = f"group {group.name} may run variant {variant} of {model} again, or others"
        add_event(tx, now, actor, "variant_rule.released", rule_id, told)
        about = {"model": model, "variant": variant, "group": group_name}
        record_audit(tx, now, actor, "variant_rule.released", rule_id, about)
        record_change(tx, now)
