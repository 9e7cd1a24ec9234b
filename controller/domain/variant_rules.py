"""What operators decide about variants: which ones a group must run, and which ones it must not."""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controller.domain.ids import GroupId, VariantRuleId


class RuleKind(StrEnum):
    """What a rule demands."""

    PIN = "pin"
    """Where a version has the variant, the group's devices run it or, if it does not fit them, none."""
    FORBID = "forbid"
    """The group's devices never run it."""


@dataclass(frozen=True)
class VariantRule:
    """Group G must, or must not, run the variant of any version of model M."""

    id: VariantRuleId
    model: str
    group_id: GroupId
    variant: str
    kind: RuleKind
    decided_at: datetime


@dataclass(frozen=True)
class VariantRules:
    """The rules that concern one device and one model, as names of variants."""

    pinned: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()


NO_RULES = VariantRules()


def rules_for(rules: Iterable[VariantRule], model: str, groups: Set[GroupId]) -> VariantRules:
    """Return what the rules say about a model to a device that belongs to these groups."""
    concerning = [rule for rule in rules if rule.model == model and rule.group_id in groups]
    return (
        VariantRules(
            frozenset(rule.variant for rule in concerning if rule.kind is RuleKind.PIN),
            frozenset(rule.variant for rule in concerning if rule.kind is RuleKind.FORBID),
        )
        if concerning
        else NO_RULES
    )
