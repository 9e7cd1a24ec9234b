"""A release's states, events and the one table that connects them; and what a version's release state is.

A release is a change of a model's role `prod-MODEL` that release keys outside the controller have to sign:

    release     puts published variants of a version into the role
    withdraw    takes a version out of the role: devices that run it keep it, nobody is given it any more
    renew       signs the same targets again before their signatures expire

    proposed             the role's next document lies ready, and gathers signatures until the threshold is met
    published, cancelled final

A model has one open proposal at a time: two documents with one version number must never both be signed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from controller.domain.errors import Conflict, InvalidInput
from controller.domain.ids import ModelId, ReleaseId, VersionId
from device_agent.protocol.manifest import NAME

HARDWARE_MAX = 64
"""Profiles that one release may name; the role stays small."""


class ReleaseKind(StrEnum):
    """What a release changes in the role."""

    RELEASE = "release"
    WITHDRAW = "withdraw"
    RENEW = "renew"


class ReleaseState(StrEnum):
    """Where a release stands."""

    PROPOSED = "proposed"
    PUBLISHED = "published"
    CANCELLED = "cancelled"


class ReleaseEvent(StrEnum):
    """What may happen to a release."""

    SIGN = "sign"
    PUBLISH = "publish"
    CANCEL = "cancel"


S, E = ReleaseState, ReleaseEvent

TRANSITIONS: dict[ReleaseState, dict[ReleaseEvent, ReleaseState]] = {
    S.PROPOSED: {E.SIGN: S.PROPOSED, E.PUBLISH: S.PUBLISHED, E.CANCEL: S.CANCELLED},
    S.PUBLISHED: {},
    S.CANCELLED: {},
}


def transition(state: ReleaseState, event: ReleaseEvent) -> ReleaseState:
    """Return the state after the event; Conflict, naming what is possible, when the table has no such move."""
    moves = TRANSITIONS[state]
    if event not in moves:
        possible = ", ".join(moves) or "nothing: it has ended"
        raise Conflict(f"the release is {state} and cannot {event}; possible: {possible}", code="release_state")
    return moves[event]


@dataclass(frozen=True)
class Release:
    """One change of a model's role, proposed and perhaps signed."""

    id: ReleaseId
    model_id: ModelId
    model: str
    version_id: VersionId | None
    """None where the role is only renewed."""
    version: int | None
    kind: ReleaseKind
    state: ReleaseState
    document: bytes
    """The role as it will be published (TUF metadata), with the signatures so far."""
    proposed_by: str
    proposed_at: datetime
    ended_at: datetime | None

    @property
    def subject(self) -> str:
        """Say what it is about: `release of digits version 3`, `renew of digits`."""
        return f"{self.kind} of {self.model}{f' version {self.version}' if self.version else ''}"


class VersionRelease(StrEnum):
    """How a version stands to the channel `prod`."""

    RELEASED = "released"
    PROPOSED = "proposed"
    NO = "no"


def version_release(released: Iterable[bool], *, proposed: bool) -> VersionRelease:
    """Return a version's state from whether each of its variants is released, and whether a release is proposed."""
    if any(released):
        return VersionRelease.RELEASED
    return VersionRelease.PROPOSED if proposed else VersionRelease.NO


def check_terms(number: int, floor: int | None, hardware: Iterable[str]) -> None:
    """Refuse a floor that the release itself would not reach, and names that are no profile's; InvalidInput."""
    if floor is not None and not 1 <= floor <= number:
        raise InvalidInput(
            f"the floor is {floor}; it must be from 1 to {number}, the version that is released: above it no device "
            "could run what is released here",
            code="release_floor",
            field="/floor",
        )
    names = list(hardware)
    bad = [name for name in names if not NAME.fullmatch(name)]
    if bad or len(names) > HARDWARE_MAX:
        told = f"{len(names)} profiles" if len(names) > HARDWARE_MAX else f"{bad[0]!r}"
        raise InvalidInput(
            f"hardware names {told}; give at most {HARDWARE_MAX} names of device profiles, as `device list` shows them",
            code="release_hardware",
            field="/hardware",
        )
