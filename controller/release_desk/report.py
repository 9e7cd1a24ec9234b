"""The report of a check: what was looked at, what was found, and why a release is not signed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class DeskCode(StrEnum):
    """Why a release is not signed. Codes are added, never renamed."""

    ROOT = "E_DESK_ROOT"
    """The image repository does not follow from the signer's own root."""
    ROLLBACK = "E_DESK_ROLLBACK"
    """The repository shows less than this signer has seen of it before."""
    ROLE = "E_DESK_ROLE"
    """The root delegates no release role for this model."""
    KEY = "E_DESK_KEY"
    """The signer's key is none of the role's."""
    MALFORMED = "E_DESK_MALFORMED"
    STALE = "E_DESK_STALE"
    """The draft does not follow the published role."""
    TARGETS = "E_DESK_TARGETS"
    """The draft adds, changes or removes other targets than it says."""
    TERMS = "E_DESK_TERMS"
    """Slot, release, floor or hardware of a target are not as announced or asked for."""
    EXPIRY = "E_DESK_EXPIRY"
    MANIFEST = "E_DESK_MANIFEST"
    """A manifest's bytes are not those that the draft signs, or say something else than their path."""
    ARTIFACT = "E_DESK_ARTIFACT"
    """An artifact cannot be had, or its bytes are not those of the manifest."""
    LINEAGE = "E_DESK_LINEAGE"
    """How the variant came to be is not attested from upload to manifest."""
    BEHAVIOUR = "E_DESK_BEHAVIOUR"
    """A device would refuse the variant: it does not give its golden outputs."""
    EVALUATION = "E_DESK_EVALUATION"
    """Measured here, the variant is not what its manifest says, or breaks its promise."""


class DeskRefusal(Exception):
    """A check failed; `code` says which, the text says what was found."""

    def __init__(self, code: DeskCode, detail: str) -> None:
        """Keep the code apart from the words."""
        self.code = code
        self.detail = detail
        super().__init__(f"{code}: {detail}")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    """`repository`, `key`, `draft`, `artifacts`, `lineage`, `behaviour` or `evaluation`."""
    subject: str
    """What it was about: a role, or a variant."""
    detail: str
    code: DeskCode | None = None
    """Why it failed; None where it passed."""
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Tell whether nothing speaks against signing."""
        return self.code is None

    def to_json(self) -> dict[str, Any]:
        """Return the form that scripts read."""
        return {**vars(self), "passed": self.passed}


Tell = Callable[[Check], None]
"""Hears of every check as soon as it is done."""


@dataclass(frozen=True)
class DeskReport:
    """Every check of one release, in the order in which they were made, and what was taken on the controller's word."""

    checks: tuple[Check, ...]
    warnings: tuple[str, ...]

    @property
    def refused(self) -> tuple[Check, ...]:
        """Return what speaks against signing."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """Return the form that scripts read."""
        return {
            "passed": not self.refused,
            "checks": [check.to_json() for check in self.checks],
            "warnings": list(self.warnings),
        }
