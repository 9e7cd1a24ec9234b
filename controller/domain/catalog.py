"""Models, versions and variants, and the table of a variant's way from upload to publication."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from controller.domain.errors import Conflict
from controller.domain.ids import ModelId, VariantId, VersionId
from device_agent.protocol.manifest import Runtime


class VariantState(StrEnum):
    """Where a variant stands. Only published variants are ever assigned to a device."""

    QUEUED = "queued"
    COMPRESSED = "compressed"
    EVALUATED = "evaluated"
    PUBLISHED = "published"
    REFUSED = "refused"
    FAILED = "failed"


class VariantEvent(StrEnum):
    """What a worker found or did."""

    COMPRESS_DONE = "compress_done"
    PROMISE_KEPT = "promise_kept"
    PROMISE_BROKEN = "promise_broken"
    SIGNED = "signed"
    GAVE_UP = "gave_up"


S, E = VariantState, VariantEvent

TRANSITIONS: dict[VariantState, dict[VariantEvent, VariantState]] = {
    S.QUEUED: {E.COMPRESS_DONE: S.COMPRESSED, E.GAVE_UP: S.FAILED},
    S.COMPRESSED: {E.PROMISE_KEPT: S.EVALUATED, E.PROMISE_BROKEN: S.REFUSED, E.GAVE_UP: S.FAILED},
    S.EVALUATED: {E.SIGNED: S.PUBLISHED, E.GAVE_UP: S.FAILED},
    S.PUBLISHED: {},
    S.REFUSED: {},
    S.FAILED: {},
}

NEXT_TASK: dict[VariantState, str] = {
    S.QUEUED: "compress_variant",
    S.COMPRESSED: "evaluate_variant",
    S.EVALUATED: "publish_variant",
}
"""The task that moves a variant on. A state without a task is final; the sweep derives work from this table."""

ATTEMPTS_MAX = 3
"""A variant whose worker died this often is given up: a model that kills its worker must not loop."""


def transition(state: VariantState, event: VariantEvent) -> VariantState:
    """Return the state after the event; Conflict when the table has no such move."""
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise Conflict(f"a variant that is {state} cannot take {event}", code="variant_state") from None


@dataclass(frozen=True)
class ModelVersion:
    """One immutable, numbered release of a model."""

    id: VersionId
    model_id: ModelId
    model: str
    number: int
    format: str
    artifact_sha256: str
    evaluation_sha256: str | None
    inspection: dict[str, Any] | None
    notes: str
    created_at: datetime


@dataclass(frozen=True)
class PublishedVariant:
    """What the desired state needs to know of a variant that devices may run."""

    id: VariantId
    version_id: VersionId
    name: str
    runtime: Runtime
    target: str
    manifest_sha256: str
    manifest_bytes: int
    wire_bytes: int
