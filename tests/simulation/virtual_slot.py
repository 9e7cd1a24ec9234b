"""One slot of a simulated device: the agent's own tables, records and reports around work that only takes time.

The lifecycle table, the recovery, the journal's record and the reporter are the agent's. What the real worker spends
its time on (downloads, self-tests, soaks) ends after simulated seconds, and as the scenario says. A power cut may come
between any commit and what follows it.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Protocol

from device_agent.clock import DeviceClock
from device_agent.failure import Failure
from device_agent.journal import SlotRecord
from device_agent.lifecycle import BOOTS_MAX, Command, SlotEvent, SlotState, Wish, transition, wish_event
from device_agent.polling import Backoff, retry_s
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import FailureStage, LifecycleState
from device_agent.slot_recovery import BOOT_LOOP, recover_slot
from device_agent.slot_reports import Job, SlotReporter, Wanted
from tests.simulation.agenda import Agenda
from tests.simulation.memory_disk import MemoryJournal, MemorySpool, MemoryStore

LINK_BROKE = Failure(FailureStage.DOWNLOAD, Code.NETWORK, "the link broke", refuses=False)
RETRIES = Backoff(base_s=60.0, cap_s=3_600.0)


class PowerCutError(Exception):
    """The device went down in the middle of something; what was committed stays."""


class Machine(Protocol):
    """The device around its slot."""

    agenda: Agenda
    random: Random
    journal: MemoryJournal
    store: MemoryStore
    spool: MemorySpool

    @property
    def hiccup_share(self) -> float:
        """Share of downloads that break."""

    def fate(self, manifest: str) -> FailureStage | None:
        """Tell where this device gives the manifest up."""

    def plan(self, delay_s: float, what: str, work: Callable[[], None]) -> None:
        """Do the work that many seconds from now, unless the machine goes down before."""


class VirtualSlot:
    """Brings one slot to what is wanted of it. As the machine's memory it is lost with the power."""

    def __init__(self, name: str, machine: Machine) -> None:
        """Recover what the machine's disk holds of the slot."""
        self.name = name
        self.state = SlotState.RESTING
        self.wanted: Wanted | None = None
        self._machine = machine
        self._reporter = SlotReporter(name, machine.spool, machine.journal, DeviceClock(lambda: machine.agenda.now))
        self._job: Job | None = None
        self._failure: Failure | None = None
        self._failures = 0
        self._not_before: datetime | None = None
        self._work = 0
        self._commands: dict[Command, Callable[[], SlotEvent | None]] = {
            Command.FETCH: self._fetch,
            Command.TEST: self._test,
            Command.WAIT: self._wait,
            Command.LOAD: self._load,
            Command.ACTIVATE: self._activate,
            Command.WATCH: self._watch,
            Command.CONFIRM: self._confirm,
            Command.GIVE_UP: self._give_up,
            Command.ABANDON: self._finish,
            Command.REVERT: self._revert,
            Command.CLEAR: self._clear,
        }
        self._resume()

    def _resume(self) -> None:
        recovered = recover_slot(self.name, self._machine.journal, self._machine.store)
        if recovered.job and recovered.failure:
            self._reporter.say(recovered.job, LifecycleState.FAILED, recovered.failure)
        elif recovered.job:
            self._job, self.state = recovered.job, SlotState.ACTIVATING

    @property
    def record(self) -> SlotRecord:
        """What the journal holds of this slot."""
        return self._machine.journal.record.slot(self.name)

    @property
    def is_idle(self) -> bool:
        """Tell whether nothing is left to do for what was last assigned."""
        return self.state is SlotState.RESTING and self._not_before is None

    def assign(self, wanted: Wanted) -> None:
        """Take note of an assignment, then do what can be done now."""
        if wanted != self.wanted:
            self.wanted = wanted
            self._failures, self._not_before = 0, None
            if self._job and wanted.assigned and self._job.manifest == wanted.manifest:
                self._job = Job(self._job.manifest, wanted.counter, wanted.assigned.soak_s)
                soaks = self.state is SlotState.SOAKING
                self._reporter.say(self._job, LifecycleState.SOAKING if soaks else LifecycleState.DOWNLOADING)
        self.step()

    def step(self) -> None:
        """Do what can be done now."""
        event = self._wish()
        if event:
            self._happen(event)
        if self.state is SlotState.ACTIVATING:
            self._happen(SlotEvent.CRASHED)
        if self.state is SlotState.RESTING and self.wanted:
            self._reporter.say_standing(self.wanted)

    def _wish(self) -> SlotEvent | None:
        if self.wanted is None:
            return None
        wanted, candidate = self.wanted.manifest, self._job.manifest if self._job else None
        wish = Wish(wanted, self.record.good, candidate, refused=wanted in self.record.refused)
        event = wish_event(self.state, wish)
        waits = event is SlotEvent.ASSIGNED and self.state is SlotState.RESTING and self._not_before is not None
        return None if waits else event

    def _happen(self, event: SlotEvent) -> None:
        following: SlotEvent | None = event
        while following:
            move = transition(self.state, following)
            self.state = move.state
            following = self._commands[move.command]()

    # The commands.

    def _fetch(self) -> SlotEvent | None:
        assert self.wanted
        assert self.wanted.assigned
        assigned = self.wanted.assigned
        self._job, self._not_before = Job(assigned.sha256, self.wanted.counter, assigned.soak_s), None
        self._reporter.say(self._job, LifecycleState.DOWNLOADING)
        broke = self._machine.random.random() < self._machine.hiccup_share
        self._later(self._machine.random.uniform(1, 300), SlotEvent.FETCHED, LINK_BROKE if broke else None)
        return None

    def _test(self) -> SlotEvent | None:
        return self._fails_in(FailureStage.BEHAVIOUR) or SlotEvent.PROVEN

    def _wait(self) -> SlotEvent | None:
        # The device has one slot, so there is nobody to wait for.
        job = self._current_job()
        self._commit(self.record.begin_trial(job.manifest, job.counter, job.soak_s))
        return SlotEvent.JOINED

    def _activate(self) -> SlotEvent | None:
        job = self._current_job()
        record = self.record.begin_trial(job.manifest, job.counter, job.soak_s)
        assert record.trial
        if record.trial.boots > BOOTS_MAX:
            self._failure = BOOT_LOOP
            return SlotEvent.FAILED
        self._commit(record)
        return self._load()

    def _load(self) -> SlotEvent | None:
        return self._fails_in(FailureStage.LOAD) or SlotEvent.LOADED

    def _watch(self) -> SlotEvent | None:
        job = self._current_job()
        self._reporter.say(job, LifecycleState.SOAKING)
        stage = self._machine.fate(job.manifest)
        if stage is FailureStage.RUNTIME:
            self._later(self._machine.random.uniform(0, job.soak_s), None)
        elif stage is FailureStage.HEALTH:
            self._later(self._machine.random.uniform(0, job.soak_s), SlotEvent.SOAKED, _blame(stage))
        else:
            self._later(job.soak_s, SlotEvent.SOAKED)
        return None

    def _confirm(self) -> SlotEvent | None:
        self._commit(self.record.confirm())
        self._reporter.say(self._current_job(), LifecycleState.HEALTHY)
        return self._finish()

    def _give_up(self) -> SlotEvent | None:
        self._commit(self._refusing(self.record))
        return self._finish()

    def _revert(self) -> SlotEvent | None:
        self._commit(self._refusing(self.record.end_trial()))
        return self._finish()

    def _clear(self) -> SlotEvent | None:
        self._commit(self.record.empty())
        return self._finish()

    # What the commands are made of.

    def _current_job(self) -> Job:
        assert self._job
        return self._job

    def _fails_in(self, stage: FailureStage) -> SlotEvent | None:
        if self._machine.fate(self._current_job().manifest) is not stage:
            return None
        self._failure = _blame(stage)
        return SlotEvent.FAILED

    def _later(self, delay_s: float, event: SlotEvent | None, failure: Failure | None = None) -> None:
        """Let work end: with the event, with a failure, or (None) with the device going down."""
        self._work += 1
        work = self._work

        def end() -> None:
            if work != self._work:
                return
            if event is None:
                raise PowerCutError
            self._failure = failure
            self._happen(SlotEvent.FAILED if failure else event)
            self.step()

        what = f"{self.state} ends: {failure.code if failure else event or 'down'}"
        self._machine.plan(delay_s, what, end)

    def _commit(self, record: SlotRecord) -> None:
        self._machine.journal.commit_slot(self.name, record)

    def _refusing(self, record: SlotRecord) -> SlotRecord:
        if self._failure and self._failure.refuses:
            job = self._current_job()
            return record.refuse(job.manifest, self._failure.refusal(job.counter))
        return record

    def _finish(self) -> SlotEvent | None:
        self._work += 1
        if self._failure:
            self._reporter.say(self._current_job(), LifecycleState.FAILED, self._failure)
            if not self._failure.refuses:
                self._postpone()
        self._job = self._failure = None
        return None

    def _postpone(self) -> None:
        self._failures += 1
        wait_s = retry_s(self._failures, RETRIES, self._machine.random)
        due = self._not_before = self._machine.agenda.now + timedelta(seconds=wait_s)

        def wake() -> None:
            if self._not_before == due:
                self._not_before = None
                self.step()

        self._machine.plan(wait_s, "tries again", wake)


def _blame(stage: FailureStage) -> Failure:
    return Failure(stage, Code.HEALTH_COMMAND, "the candidate does not do its work", refuses=True)
