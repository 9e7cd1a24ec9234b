"""What a slot tells the controller: each state of each assignment once, however often the work is repeated."""

from dataclasses import dataclass

from device_agent.clock import DeviceClock
from device_agent.failure import Failure
from device_agent.journal import Journal
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import LifecycleItem, LifecycleState
from device_agent.reports import ReportSpool


@dataclass(frozen=True)
class Wanted:
    """What the newest assignment says of a slot; `assigned` is None for an empty slot."""

    counter: int
    assigned: SlotAssignment | None

    @property
    def manifest(self) -> str | None:
        """The manifest that the slot shall run."""
        return self.assigned.sha256 if self.assigned else None


@dataclass(frozen=True)
class Job:
    """The candidate that a slot works on, and the newest assignment that asked for it."""

    manifest: str
    counter: int
    soak_s: float


class SlotReporter:
    """Reports of one slot. They are made from what the journal holds, after it was committed."""

    def __init__(self, name: str, spool: ReportSpool, journal: Journal, clock: DeviceClock) -> None:
        """`name` is the slot's."""
        self._name = name
        self._spool = spool
        self._journal = journal
        self._clock = clock
        self._said: set[tuple[int, str, LifecycleState, str | None]] = set()

    def say(self, job: Job, state: LifecycleState, failure: Failure | None = None) -> None:
        """Report that an assignment reached a state, unless that has been said since the agent started."""
        what = (job.counter, job.manifest, state, failure.code if failure else None)
        if what in self._said:
            return
        # Only the newest assignment is worth remembering.
        self._said = {said for said in self._said if said[0] == job.counter} | {what}
        self._spool.add([self._item(job, state, failure)])

    def say_standing(self, wanted: Wanted) -> None:
        """Report an assignment that needs no work: it is confirmed already, or was refused before."""
        if wanted.assigned is None:
            return
        record, manifest = self._journal.record.slot(self._name), wanted.assigned.sha256
        job = Job(manifest, wanted.counter, wanted.assigned.soak_s)
        refusal = record.refused.get(manifest)
        if manifest == record.good:
            self.say(job, LifecycleState.HEALTHY)
        elif refusal:
            again = refusal.counter != wanted.counter
            message = f"refused before: {refusal.code}: {refusal.message}" if again else refusal.message
            code = str(Code.REFUSED_BEFORE) if again else refusal.code
            self.say(job, LifecycleState.FAILED, Failure(refusal.stage, code, message, refuses=True))

    def _item(self, job: Job, state: LifecycleState, failure: Failure | None) -> LifecycleItem:
        record = self._journal.record
        return LifecycleItem(
            slot=self._name,
            counter=job.counter,
            manifest=job.manifest,
            state=state,
            at=self._clock.now(record),
            active=record.slot(self._name).active,
            stage=failure.stage if failure else None,
            code=failure.code if failure else None,
            message=failure.message[:2000] if failure else None,
            refused=failure.refuses if failure else False,
        )
