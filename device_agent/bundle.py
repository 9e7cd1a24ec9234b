"""The slots of one assignment change together: what keeps a device from running half of what was meant as one set.

Whoever can block single files could otherwise choose which of an assignment's models a device gets (the Uptane standard
calls it a partial bundle installation attack). So

* nothing is downloaded before every slot that the assignment changes has been verified;
* no candidate goes on trial before all of them are complete and proven, and then all trials begin with one commit of
  the journal: after a loss of power either every slot has begun its trial or none has;
* where one slot gives up before that, the others give up with it (E_PARTIAL_BUNDLE, which names it), and try again
  later.

A slot that needs no change takes no part and waits for nothing: its manifest is confirmed, on trial, or refused for
good by this device. Nor does a slot that is to be emptied. What a candidate does once it is on trial is its own
affair: one that fails its soak goes back alone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from device_agent.failure import Failure
from device_agent.journal import Journal, SlotRecord
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import FailureStage
from device_agent.serving_client import ServingStatus


class Progress(IntEnum):
    """How far a slot has come on its way to a trial."""

    BEGUN = 0
    """It has yet to be verified; its work may not even have started."""
    VERIFIED = 1
    READY = 2
    """Complete and proven."""


@dataclass(frozen=True)
class Share:
    """A slot's part in a bundle."""

    counter: int
    """The assignment that asks for the change; slots of one assignment are one bundle."""
    progress: Progress


class Member(Protocol):
    """What a bundle sees of a slot's worker."""

    name: str

    @property
    def share(self) -> Share | None:
        """The slot's part; None where nothing is to be changed."""

    def trial(self) -> SlotRecord:
        """Return the record of the slot with its candidate's trial begun."""

    def begin(self, serving: ServingStatus) -> None:
        """Load the candidate; its trial has been committed."""

    def give_up_with(self, failure: Failure) -> None:
        """Take note that the bundle has failed."""


class Bundle:
    """The bundles of one device. Everything is seen from one member; its bundle is whoever shares its counter."""

    def __init__(self, journal: Journal, members: Callable[[], Iterable[Member]]) -> None:
        """`members` returns every slot of the device."""
        self._journal = journal
        self._members = members

    def is_at_least(self, member: Member, progress: Progress) -> bool:
        """Tell whether every slot of the member's bundle has come that far."""
        return all(share.progress >= progress for _, share in self._sharing(member))

    def commit_trials(self, member: Member) -> list[Member]:
        """Begin the trials of the member's whole bundle with one commit, and return who is to be loaded now.

        OSError leaves every slot as it was.
        """
        together = [other for other, _ in self._sharing(member)]
        record = self._journal.record
        for other in together:
            record = record.with_slot(other.name, other.trial())
        self._journal.commit(record)
        return together

    def break_up(self, culprit: Member, failure: Failure) -> None:
        """Make the other slots of the bundle give up, because this one has."""
        reason = failure.message if failure.message.startswith(failure.code) else f"{failure.code}: {failure.message}"
        message = f"slot {culprit.name} of the same assignment: {reason}"[:1000]
        told = Failure(FailureStage.VERIFY, Code.PARTIAL_BUNDLE, message, refuses=False)
        for other, _ in self._sharing(culprit):
            if other is not culprit:
                other.give_up_with(told)

    def _sharing(self, member: Member) -> list[tuple[Member, Share]]:
        own = member.share
        shares = [(other, other.share) for other in self._members()]
        return [(other, share) for other, share in shares if share and own and share.counter == own.counter]
