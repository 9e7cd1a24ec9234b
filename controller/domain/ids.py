"""Identifiers: one type per kind, so that a rollout's id is never taken for a device's."""

from typing import NewType

ModelId = NewType("ModelId", str)
VersionId = NewType("VersionId", str)
VariantId = NewType("VariantId", str)
DeviceId = NewType("DeviceId", str)
GroupId = NewType("GroupId", str)
PinId = NewType("PinId", str)
RolloutId = NewType("RolloutId", str)
VariantRuleId = NewType("VariantRuleId", str)
RecipeId = NewType("RecipeId", str)
SearchId = NewType("SearchId", str)
ReleaseId = NewType("ReleaseId", str)

PREFIXES = {
    ModelId: "mo",
    VersionId: "ve",
    VariantId: "va",
    DeviceId: "dv",
    GroupId: "gr",
    PinId: "pi",
    RolloutId: "ro",
    VariantRuleId: "vr",
    RecipeId: "re",
    SearchId: "se",
    ReleaseId: "rl",
}
"""How an id says what it names: `ro_019ab...`."""
