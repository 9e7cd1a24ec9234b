"""Which report batches are new, which were said before, and which tell of two machines under one key.

A device numbers the batches of its spool from 1, and a device that lost its spool begins another one under a new
name. One machine never uses a number twice for different batches, and never goes back to a spool that it lost; a
copy of its disk does both as soon as the two have reported once (ADR 19).
"""

from dataclasses import dataclass
from enum import StrEnum

FORMER_SPOOLS_MAX = 16


@dataclass(frozen=True)
class ReportPosition:
    """Where the reports of one device stand."""

    spool: str
    seq: int
    """The highest number that was taken of this spool."""
    batch: str
    """The batch that carried it."""
    former_spools: tuple[str, ...] = ()
    """Spools that came before, the latest last."""


class Verdict(StrEnum):
    """What becomes of a batch."""

    TAKE = "take"
    DUPLICATE = "duplicate"
    """It was taken before, and its answer was lost: it is acknowledged again."""
    REPLAY = "replay"
    """It was taken before, and others after it: the device that sent it would not send it again."""
    CLONE = "clone"
    """It cannot come from the machine that sent the others."""


@dataclass(frozen=True)
class Numbered:
    """The part of a batch that tells where it belongs."""

    spool: str
    seq: int
    batch: str


def judge_report(position: ReportPosition | None, report: Numbered, *, is_known: bool) -> Verdict:
    """Say what becomes of a batch; `is_known` tells whether a batch of this id was taken from the device before.

    A device of which nothing is known yet, or no longer since a person cleared a suspicion, begins anywhere.
    """
    if position is None:
        return Verdict.DUPLICATE if is_known else Verdict.TAKE
    if report.spool == position.spool:
        if report.seq > position.seq:
            return Verdict.TAKE
        if (report.seq, report.batch) == (position.seq, position.batch):
            return Verdict.DUPLICATE
        return Verdict.REPLAY if is_known else Verdict.CLONE
    if report.spool not in position.former_spools:
        return Verdict.TAKE
    return Verdict.REPLAY if is_known else Verdict.CLONE


def is_behind(position: ReportPosition | None, report: Numbered) -> bool:
    """Tell whether `is_known` decides about this batch, which costs a look into the database."""
    if position is None:
        return True
    if report.spool == position.spool:
        return report.seq <= position.seq
    return report.spool in position.former_spools


def moved_to(position: ReportPosition | None, report: Numbered) -> ReportPosition:
    """Return the position after a batch was taken."""
    former: tuple[str, ...] = ()
    if position:
        former = position.former_spools
        if position.spool != report.spool:
            former = (*former, position.spool)[-FORMER_SPOOLS_MAX:]
    return ReportPosition(report.spool, report.seq, report.batch, former)
