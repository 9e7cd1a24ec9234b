"""Models, versions and variants, and the table of a variant's way from upload to publication."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from controller.domain.costs import Cost
from controller.domain.errors import Conflict
from controller.domain.ids import ModelId, VariantId, VersionId
from device_agent.protocol.manifest import Runtime


class VariantState(StrEnum):
    """Where a variant stands. Only published variants are ever assigned to a device."""

    QUEUED = "queued"
    COMPRESSED = "compressed"
    EVALUATED = "evaluated"
    MEASURED = "measured"
    ASIDE = "aside"
    """Made and measured for a search, and not published unless it is chosen."""
    PUBLISHED = "published"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


class VariantEvent(StrEnum):
    """What a worker found or did."""

    COMPRESS_DONE = "compress_done"
    PROMISE_KEPT = "promise_kept"
    PROMISE_BROKEN = "promise_broken"
    MEASURE_DONE = "measure_done"
    SET_ASIDE = "set_aside"
    CHOSEN = "chosen"
    SIGNED = "signed"
    GAVE_UP = "gave_up"
    CANCEL = "cancel"
    ASKED_AGAIN = "asked_again"


S, E = VariantState, VariantEvent

_ENDS_EARLY = {E.GAVE_UP: S.FAILED, E.CANCEL: S.CANCELLED}

TRANSITIONS: dict[VariantState, dict[VariantEvent, VariantState]] = {
    S.QUEUED: {E.COMPRESS_DONE: S.COMPRESSED, **_ENDS_EARLY},
    S.COMPRESSED: {E.PROMISE_KEPT: S.EVALUATED, E.PROMISE_BROKEN: S.REFUSED, **_ENDS_EARLY},
    S.EVALUATED: {E.MEASURE_DONE: S.MEASURED, E.SET_ASIDE: S.ASIDE, **_ENDS_EARLY},
    S.MEASURED: {E.SIGNED: S.PUBLISHED, **_ENDS_EARLY},
    S.ASIDE: {E.CHOSEN: S.COMPRESSED},
    S.PUBLISHED: {},
    S.REFUSED: {E.ASKED_AGAIN: S.QUEUED},
    S.FAILED: {E.ASKED_AGAIN: S.QUEUED},
    S.CANCELLED: {E.ASKED_AGAIN: S.QUEUED},
}

NEXT_TASK: dict[VariantState, str] = {
    S.QUEUED: "compress_variant",
    S.COMPRESSED: "evaluate_variant",
    S.EVALUATED: "measure_variant",
    S.MEASURED: "publish_variant",
}
"""The task that moves a variant on. In a state without a task it rests; the sweep derives work from this table."""

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
    calibration_sha256: str | None
    promise: dict[str, Any] | None
    """What its variants must keep; None for what the installation promises."""
    inspection: dict[str, Any] | None
    notes: str
    created_at: datetime
    sealed: bool = False
    """The model's variants travel encrypted."""


@dataclass(frozen=True)
class PublishedVariant:
    """What the desired state needs to know of a variant that devices may run."""

    id: VariantId
    version_id: VersionId
    name: str
    runtime: Runtime
    target: str
    """Path in the image repository, in the channel `prod` once it is released."""
    release: int
    """The release counter: the version's number."""
    manifest_sha256: str
    manifest_bytes: int
    wire_bytes: int
    released: bool = False
    """A release key outside the controller vouches for it, so devices on the channel `prod` may run it."""
    hardware: tuple[str, ...] = ()
    """The profiles that it is released for; none: all."""
    content_key: str | None = None
    """Names the key that it is sealed with; None where it travels in clear."""
    costs: Mapping[str, Cost] = field(default_factory=dict, hash=False)
    """What it was measured to cost, by class of devices; frozen when it was published."""
