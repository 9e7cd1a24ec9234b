"""One slot at work: carries out the commands of the lifecycle table and turns their results into events.

A worker never waits for anything that may take long: `step` does what can be done now, and says when it wants
to be called again. What it must not forget is committed to the journal before it acts on it, and every report is
made from what was committed, so a report lost in a crash is made again after the next poll.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from device_agent.acquisition import Acquisition, disk_error, failure_stage
from device_agent.clock import DeviceClock
from device_agent.errors import ServingUnavailableError
from device_agent.health import Candidate, Failure, HealthCommand, Soak
from device_agent.journal import Journal, Refusal, SlotRecord, Trial
from device_agent.lifecycle import (
    BOOTS_MAX,
    RECOVERY,
    Command,
    Recovery,
    SlotEvent,
    SlotFound,
    SlotState,
    TrialFound,
    Wish,
    transition,
    wish_event,
)
from device_agent.polling import Backoff, retry_s
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.messages import FailureStage, LifecycleItem, LifecycleState
from device_agent.reports import ReportSpool
from device_agent.selftest import run_selftest
from device_agent.serving_client import LoadRequest, ServingClient, ServingStatus
from device_agent.slots import ModelStore

_log = logging.getLogger(__name__)
_SLICE_S = 0.25
"""How long a download may keep the agent from its other work."""
_SOAK_TICK_S = 0.2
_NEVER_S = 3600.0


@dataclass(frozen=True)
class Workbench:
    """What the workers of a device share."""

    journal: Journal
    store: ModelStore
    spool: ReportSpool
    serving: ServingClient
    acquisition: Acquisition
    clock: DeviceClock
    health: HealthCommand
    selftest_timeout_s: float
    memory_bytes: int
    """What a model may use at its peak, the bound of a self-test."""
    retries: Backoff
    """Waits between attempts at an assignment that failed without being refused."""
    random: Random
    tidy: Callable[[], None]
    """Deletes the models that no slot needs any more."""


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
class _Job:
    """The candidate being worked on."""

    manifest: str
    counter: int
    soak_s: float


class SlotWorker:
    """Brings one slot to what is wanted of it."""

    def __init__(self, name: str, bench: Workbench) -> None:
        """Begin at rest; call `recover` before anything else."""
        self.name = name
        self.state = SlotState.RESTING
        self.wanted: Wanted | None = None
        self._bench = bench
        self._job: _Job | None = None
        self._fetching: Iterator[float] | None = None
        self._soak: Soak | None = None
        self._failure: Failure | None = None
        self._failures = 0
        self._not_before = 0.0
        self._serving: ServingStatus | None = None
        self._soaks_in: int | None = None
        self._said: set[tuple[LifecycleState, str | None]] = set()
        self._commands: dict[Command, Callable[[], SlotEvent | None]] = {
            Command.FETCH: self._fetch,
            Command.TEST: self._test,
            Command.ACTIVATE: self._activate,
            Command.WATCH: self._watch,
            Command.CONFIRM: self._confirm,
            Command.GIVE_UP: self._give_up,
            Command.ABANDON: self._abandon,
            Command.REVERT: self._revert,
            Command.CLEAR: self._clear,
        }

    @property
    def record(self) -> SlotRecord:
        """What the journal holds of this slot."""
        return self._bench.journal.record.slot(self.name)

    def assign(self, wanted: Wanted) -> None:
        """Take note of the newest assignment; `step` acts on it."""
        if wanted == self.wanted:
            return
        self._said.clear()
        self._failures, self._not_before = 0, 0.0
        self.wanted = wanted
        if self._job and self._job.manifest == wanted.manifest:
            self._job = _Job(self._job.manifest, wanted.counter, self._job.soak_s)
            self._report_progress()

    def recover(self) -> None:
        """Go on from what a start finds on disk, by the recovery table."""
        record, store = self.record, self._bench.store
        found = SlotFound(_trial_found(record.trial), store.inspect(record.active), store.inspect(record.good))
        action = RECOVERY[found]
        if action not in {Recovery.REST, Recovery.LOAD}:
            _log.warning("slot %s: found %s, so %s", self.name, found, action)
        if record.trial and record.active:
            self._job = _Job(record.active, max(1, record.trial.counter), record.trial.soak_s)
        if action is Recovery.RESUME_TRIAL:
            # The next step counts this start as one more boot before it loads.
            self.state = SlotState.ACTIVATING
        elif action in {Recovery.DROP_TRIAL, Recovery.EMPTY}:
            self._failure = Failure(FailureStage.VERIFY, Code.HASH_MISMATCH, "damaged on disk", refuses=False)
            self._end_recovery(record.end_trial() if action is Recovery.DROP_TRIAL else record.empty())
        elif action in {Recovery.REFUSE_TRIAL, Recovery.REFUSE_AND_EMPTY}:
            self._failure = _boot_loop()
            self._end_recovery(record.end_trial() if action is Recovery.REFUSE_TRIAL else record.empty())

    def _end_recovery(self, record: SlotRecord) -> None:
        damaged = self.record.active
        self._commit_failure(record)
        if damaged:
            self._bench.store.discard(damaged)

    def step(self, serving: ServingStatus | None) -> float:
        """Do what can be done now; return in how many seconds to call again. `serving` is None while it is down."""
        self._serving = serving
        event = self._wish()
        if event:
            self._happen(event)
        if self.state is SlotState.FETCHING:
            self._advance_fetch()
        elif self.state is SlotState.ACTIVATING and serving:
            # A load was begun and never answered: in this process, or in the one before it.
            self._happen(SlotEvent.CRASHED)
        elif self.state is SlotState.SOAKING:
            self._advance_soak()
        elif self.state is SlotState.RESTING:
            self._settle()
        return self._due_in()

    def stop(self) -> None:
        """End what runs beside the agent; the journal and the part files say where to go on."""
        self._drop_work()

    def _wish(self) -> SlotEvent | None:
        if self.wanted is None:
            return None
        record, wanted = self.record, self.wanted.manifest
        candidate = self._job.manifest if self._job else None
        wish = Wish(wanted, record.good, candidate, refused=wanted in record.refused)
        event = wish_event(self.state, wish)
        waits = self.state is SlotState.RESTING and time.monotonic() < self._not_before
        return None if waits and event is SlotEvent.ASSIGNED else event

    def _happen(self, event: SlotEvent) -> None:
        following: SlotEvent | None = event
        while following:
            move = transition(self.state, following)
            _log.info("slot %s: %s, %s -> %s", self.name, following, self.state, move.state)
            self.state = move.state
            following = self._commands[move.command]()

    def _due_in(self) -> float:
        if self.state is SlotState.SOAKING:
            return _SOAK_TICK_S
        if self.state is SlotState.FETCHING or time.monotonic() < self._not_before:
            return max(0.0, self._not_before - time.monotonic())
        return _NEVER_S

    # --- commands, in the order of an update ---

    def _fetch(self) -> SlotEvent | None:
        self._drop_work()
        assert self.wanted
        assert self.wanted.assigned
        assigned = self.wanted.assigned
        self._job = _Job(assigned.sha256, self.wanted.counter, assigned.soak_s)
        self._report_progress()
        self._fetching = self._bench.acquisition.fetch(self.name, assigned)
        self._not_before = 0.0
        return None

    def _advance_fetch(self) -> None:
        assert self._fetching
        ends = time.monotonic() + _SLICE_S
        while self._not_before <= time.monotonic() < ends:
            try:
                self._not_before = time.monotonic() + next(self._fetching)
            except StopIteration:
                self._happen(SlotEvent.FETCHED)
                return
            except (ProtocolError, OSError) as error:
                told = disk_error(error) if isinstance(error, OSError) else error
                self._failure = Failure(failure_stage(told), told.label, str(told), refuses=False)
                self._happen(SlotEvent.FAILED)
                return

    def _test(self) -> SlotEvent:
        self._drop_work()
        job, bench = self._current_job(), self._bench
        if bench.store.manifest(job.manifest).runtime.engine == "opaque":
            return SlotEvent.PROVEN
        self._failure = run_selftest(
            bench.store.directory(job.manifest),
            memory_bytes=bench.memory_bytes,
            timeout_s=bench.selftest_timeout_s,
        )
        return SlotEvent.FAILED if self._failure else SlotEvent.PROVEN

    def _activate(self) -> SlotEvent | None:
        self._drop_work()
        job = self._current_job()
        record = self.record.begin_trial(job.manifest, job.counter, job.soak_s)
        assert record.trial
        if record.trial.boots > BOOTS_MAX:
            self._failure = _boot_loop()
            return SlotEvent.FAILED
        try:
            self._bench.journal.commit_slot(self.name, record)
        except OSError as error:
            told = disk_error(error)
            self._failure = Failure(FailureStage.LOAD, told.label, str(told), refuses=False)
            return SlotEvent.FAILED
        return self._load(job.manifest)

    def _load(self, manifest: str) -> SlotEvent | None:
        """Return None while nothing is known: then the serving process is down, and that counts as a boot."""
        try:
            refused = self._load_into_serving(manifest)
        except ServingUnavailableError as error:
            _log.warning("slot %s: %s", self.name, error)
            return None
        if refused:
            self._failure = refused
            return SlotEvent.FAILED
        return SlotEvent.LOADED

    def _load_into_serving(self, manifest: str) -> Failure | None:
        store = self._bench.store
        content = store.manifest(manifest)
        if content.runtime.engine == "opaque":
            return None
        request = LoadRequest(self.name, str(content.version), manifest, store.directory(manifest), content.main)
        refused = self._bench.serving.load(request)
        return Failure(FailureStage.LOAD, refused.code, refused.message, refuses=True) if refused else None

    def _watch(self) -> SlotEvent | None:
        job = self._current_job()
        self._report_progress()
        version = str(self._bench.store.manifest(job.manifest).version)
        self._soaks_in = self._serving.pid if self._serving else None
        url = self._serving.inference_url if self._serving else ""
        self._soak = Soak(Candidate(self.name, version, job.manifest, url), self._bench.health, job.soak_s)
        return None

    def _advance_soak(self) -> None:
        assert self._soak
        if self._serving is None:
            return
        if self._serving.pid != self._soaks_in:
            self._happen(SlotEvent.CRASHED)
            return
        verdict = self._soak.poll()
        if isinstance(verdict, Failure):
            self._failure = verdict
            self._happen(SlotEvent.FAILED)
        elif verdict:
            self._happen(SlotEvent.SOAKED)

    def _confirm(self) -> SlotEvent | None:
        self._bench.journal.commit_slot(self.name, self.record.confirm())
        self._report(LifecycleState.HEALTHY)
        self._finish()
        return None

    def _give_up(self) -> SlotEvent | None:
        self._commit_failure(self.record)
        self._finish()
        return None

    def _abandon(self) -> SlotEvent | None:
        self._finish()
        return None

    def _revert(self) -> SlotEvent | None:
        self._drop_work()
        good = self.record.good
        self._commit_ended_trial()
        self._restore(good)
        if self._failure:
            self._report_failure(self._failure)
        self._finish()
        return None

    def _clear(self) -> SlotEvent | None:
        self._drop_work()
        self._bench.journal.commit_slot(self.name, self.record.empty())
        self._restore(None)
        self._finish()
        return None

    # --- what the commands are made of ---

    def _current_job(self) -> _Job:
        assert self._job
        return self._job

    def _commit_ended_trial(self) -> None:
        self._bench.journal.commit_slot(self.name, self._refusing(self.record.end_trial()))

    def _commit_failure(self, record: SlotRecord) -> None:
        """Make a failure durable, then say so."""
        self._bench.journal.commit_slot(self.name, self._refusing(record))
        if self._failure and self._job:
            self._report_failure(self._failure)
            if not self._failure.refuses:
                self._failures += 1
                wait_s = retry_s(self._failures, self._bench.retries, self._bench.random)
                self._not_before = time.monotonic() + wait_s
        self._job = self._failure = None

    def _refusing(self, record: SlotRecord) -> SlotRecord:
        failure, job = self._failure, self._job
        if not (failure and failure.refuses and job):
            return record
        return record.refuse(job.manifest, Refusal(job.counter, failure.stage, failure.code, failure.message))

    def _restore(self, manifest: str | None) -> None:
        """Make the slot serve a confirmed manifest, or nothing. What fails here is tried again while at rest."""
        try:
            if manifest is None:
                self._bench.serving.unload(self.name)
            else:
                failure = self._load_into_serving(manifest)
                if failure:
                    _log.error("slot %s: the confirmed model does not load: %s", self.name, failure.message)
        except ServingUnavailableError as error:
            _log.warning("slot %s: %s", self.name, error)

    def _settle(self) -> None:
        """At rest: serve what is confirmed, and say where the assignment stands."""
        record, serving = self.record, self._serving
        if serving and time.monotonic() >= self._not_before and self._is_served(record.active, serving):
            self._not_before = time.monotonic() + retry_s(1, self._bench.retries, self._bench.random)
            self._restore(record.active)
        self._report_standing(record)

    def _drop_work(self) -> None:
        if self._fetching is not None:
            close = getattr(self._fetching, "close", None)
            if close:
                close()
            self._fetching = None
        if self._soak:
            self._soak.stop()
            self._soak = None

    def _finish(self) -> None:
        self._drop_work()
        self._job = self._failure = None
        self._bench.tidy()
