"""One slot at work: carries out the commands of the lifecycle table and turns their results into events.

A worker never waits for the link or for a soak: `step` does what can be done now and says when it wants to be
called again. What it must not forget is committed to the journal before it acts on it, and every report is made
from what was committed; a report lost in a crash is made again after the next poll.
"""

import logging
import time
from collections.abc import Callable, Generator

from device_agent.bundle import Bundle, Progress, Share
from device_agent.errors import ServingUnavailableError
from device_agent.failure import Failure
from device_agent.health import Candidate, Soak
from device_agent.journal import SlotRecord
from device_agent.lifecycle import BOOTS_MAX, Command, SlotEvent, SlotState, Wish, transition, wish_event
from device_agent.polling import retry_s
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.messages import LifecycleState
from device_agent.selftest import run_selftest
from device_agent.serving_client import ServingStatus
from device_agent.slot_recovery import BOOT_LOOP, Recovered
from device_agent.slot_reports import Job, SlotReporter, Wanted
from device_agent.standing_model import StandingModel
from device_agent.workbench import Workbench

_log = logging.getLogger(__name__)
_SLICE_S = 0.25
"""How long a download may keep the agent from its other work."""
_SOAK_TICK_S = 0.2
_OTHERS_S = 0.2
"""How often to look whether the other slots of the assignment have come as far."""
_IDLE_S = 60.0


class SlotWorker:
    """Brings one slot to what is wanted of it."""

    def __init__(
        self, name: str, bench: Workbench, reporter: SlotReporter, bundle: Bundle, tidy: Callable[[], None]
    ) -> None:
        """Begin at rest; `tidy` deletes the models that no slot of the device needs any more."""
        self.name = name
        self.state = SlotState.RESTING
        self.wanted: Wanted | None = None
        self._bench = bench
        self._reporter = reporter
        self._bundle = bundle
        self._standing = StandingModel(name, bench)
        self._tidy = tidy
        self._job: Job | None = None
        self._failure: Failure | None = None
        self._fetching: Generator[float] | None = None
        self._verified = False
        self._broken: Failure | None = None
        self._soak: Soak | None = None
        self._soaks_in: int | None = None
        self._failures = 0
        self._not_before = 0.0
        self._serving: ServingStatus | None = None
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

    @property
    def record(self) -> SlotRecord:
        """What the journal holds of this slot."""
        return self._bench.journal.record.slot(self.name)

    @property
    def awaited_manifest(self) -> str | None:
        """The manifest that the slot shall run and has not refused: its bytes are worth keeping."""
        manifest = self.wanted.manifest if self.wanted else None
        return None if manifest in self.record.refused else manifest

    @property
    def share(self) -> Share | None:
        """The slot's part in the bundle of its assignment; None where there is nothing to change, or no more."""
        awaited, candidate = self.awaited_manifest, self._job.manifest if self._job else None
        on_trial = self.state in {SlotState.ACTIVATING, SlotState.SOAKING}
        if self.wanted is None or awaited is None or awaited == self.record.good:
            return None
        if awaited != candidate or self.state is SlotState.RESTING:
            return Share(self.wanted.counter, Progress.BEGUN)
        if on_trial:
            return None
        ready = self.state is SlotState.READY
        progress = Progress.READY if ready else Progress.VERIFIED if self._verified else Progress.BEGUN
        return Share(self.wanted.counter, progress)

    def resume(self, recovered: Recovered) -> None:
        """Go on from what a start found on disk."""
        if recovered.job and recovered.failure:
            self._reporter.say(recovered.job, LifecycleState.FAILED, recovered.failure)
        elif recovered.job:
            # The first step counts this start as one more boot before it loads.
            self._job, self.state = recovered.job, SlotState.ACTIVATING

    def assign(self, wanted: Wanted) -> None:
        """Take note of the newest assignment; `step` acts on it."""
        if wanted == self.wanted:
            return
        self.wanted = wanted
        self._failures, self._not_before = 0, 0.0
        self._broken = None
        if self._job and wanted.assigned and self._job.manifest == wanted.manifest:
            self._job = Job(self._job.manifest, wanted.counter, wanted.assigned.soak_s)
            soaks = self.state is SlotState.SOAKING
            self._reporter.say(self._job, LifecycleState.SOAKING if soaks else LifecycleState.DOWNLOADING)

    def step(self, serving: ServingStatus | None) -> float:
        """Do what can be done now; return in how many seconds to call again. `serving` is None while it is down."""
        self._serving = serving
        event = self._wish()
        if event:
            self._happen(event)
        event = self._advance(serving)
        if event:
            self._happen(event)
        return self._due_in()

    def stop(self) -> None:
        """End what runs beside the agent; the journal and the part files say where to go on."""
        if self._fetching:
            self._fetching.close()
        if self._soak:
            self._soak.stop()
        self._fetching = self._soak = None

    def _advance(self, serving: ServingStatus | None) -> SlotEvent | None:
        if self.state not in {SlotState.ACTIVATING, SlotState.SOAKING}:
            self._standing.keep(serving)
        if self.state is SlotState.FETCHING:
            return self._break_off() or self._advance_fetch()
        if self.state is SlotState.READY:
            return self._break_off() or self._join(serving)
        if self.state is SlotState.RESTING and self.wanted:
            self._reporter.say_standing(self.wanted)
        if self.state is SlotState.ACTIVATING and serving:
            # A load was begun and never answered: in this process, or in the one before it.
            return SlotEvent.CRASHED
        if self.state is SlotState.SOAKING and serving:
            return self._advance_soak(serving)
        return None

    def _wish(self) -> SlotEvent | None:
        if self.wanted is None:
            return None
        record, wanted = self.record, self.wanted.manifest
        candidate = self._job.manifest if self._job else None
        event = wish_event(self.state, Wish(wanted, record.good, candidate, refused=wanted in record.refused))
        waits = event is SlotEvent.ASSIGNED and self.state is SlotState.RESTING and self._waiting_s() > 0
        return None if waits else event

    def _happen(self, event: SlotEvent) -> None:
        following: SlotEvent | None = event
        while following:
            move = transition(self.state, following)
            _log.info("slot %s: %s; %s -> %s", self.name, following, self.state, move.state)
            self.state = move.state
            following = self._commands[move.command]()

    def _waiting_s(self) -> float:
        return max(0.0, self._not_before - time.monotonic())

    def _due_in(self) -> float:
        if self.state is SlotState.SOAKING:
            return _SOAK_TICK_S
        if self.state is SlotState.READY:
            return 0.0 if self._serving and self._bundle.is_at_least(self, Progress.READY) else _OTHERS_S
        waiting_s = self._waiting_s()
        return waiting_s if self.state is SlotState.FETCHING or waiting_s else _IDLE_S

    # The commands, in the order of an update.

    def _fetch(self) -> SlotEvent | None:
        self.stop()
        assert self.wanted
        assert self.wanted.assigned
        assigned = self.wanted.assigned
        self._job = Job(assigned.sha256, self.wanted.counter, assigned.soak_s)
        self._reporter.say(self._job, LifecycleState.DOWNLOADING)
        self._fetching = self._acquire(assigned)
        self._verified, self._not_before = False, 0.0
        return None

    def _acquire(self, assigned: SlotAssignment) -> Generator[float]:
        """Verify; wait until every slot of the assignment is verified; download."""
        acquisition = self._bench.acquisition
        verified = yield from acquisition.verify(self.name, assigned)
        self._verified = True
        while not self._bundle.is_at_least(self, Progress.VERIFIED):
            yield _OTHERS_S
        yield from acquisition.download(verified)

    # What the other slots of the assignment have to do with this one.

    def give_up_with(self, failure: Failure) -> None:
        """Take note that another slot of the assignment gave up; one that waits for its next attempt has done so."""
        attempts = self.state in {SlotState.FETCHING, SlotState.READY}
        if attempts or (self.state is SlotState.RESTING and not self._waiting_s()):
            _log.warning("slot %s gives up: %s", self.name, failure.message)
            self._broken = failure

    def _break_off(self) -> SlotEvent | None:
        self._failure, self._broken = self._broken, None
        return SlotEvent.FAILED if self._failure else None

    def _wait(self) -> SlotEvent | None:
        self._not_before = 0.0
        return None

    def _join(self, serving: ServingStatus | None) -> SlotEvent | None:
        # A trial that nobody can serve would only count boots.
        if serving is None or not self._bundle.is_at_least(self, Progress.READY):
            return None
        try:
            together = self._bundle.commit_trials(self)
        except OSError as error:
            self._failure = Failure.of_acquisition(error)
            return SlotEvent.FAILED
        for member in together:
            member.begin(serving)
        return None

    def trial(self) -> SlotRecord:
        """Return the slot's record with the candidate's trial begun."""
        job = self._current_job()
        return self.record.begin_trial(job.manifest, job.counter, job.soak_s)

    def begin(self, serving: ServingStatus) -> None:
        """Load the candidate, whose trial the bundle has committed."""
        self._serving = serving
        self._happen(SlotEvent.JOINED)

    # From the trial on every slot is on its own.

    def _advance_fetch(self) -> SlotEvent | None:
        assert self._fetching
        ends = time.monotonic() + _SLICE_S
        while self._not_before <= time.monotonic() < ends:
            try:
                self._not_before = time.monotonic() + next(self._fetching)
            except StopIteration:
                return SlotEvent.FETCHED
            except (ProtocolError, OSError) as error:
                self._failure = Failure.of_acquisition(error)
                return SlotEvent.FAILED
        return None

    def _test(self) -> SlotEvent | None:
        self.stop()
        manifest = self._current_job().manifest
        if not self._bench.placement.is_opaque(manifest):
            self._failure = run_selftest(
                self._bench.store.directory(manifest),
                memory_bytes=self._bench.memory_bytes,
                timeout_s=self._bench.selftest_timeout_s,
            )
        return SlotEvent.FAILED if self._failure else SlotEvent.PROVEN

    def _activate(self) -> SlotEvent | None:
        self.stop()
        record = self.trial()
        assert record.trial
        if record.trial.boots > BOOTS_MAX:
            self._failure = BOOT_LOOP
            return SlotEvent.FAILED
        try:
            self._bench.journal.commit_slot(self.name, record)
        except OSError as error:
            self._failure = Failure.of_acquisition(error)
            return SlotEvent.FAILED
        return self._load()

    def _load(self) -> SlotEvent | None:
        try:
            self._failure = self._bench.placement.place(self.name, self._current_job().manifest)
        except OSError as error:
            self._failure = Failure.of_acquisition(error)
        except ServingUnavailableError as error:
            # Nothing is known of the candidate; the next step with a serving process counts one more boot.
            _log.warning("slot %s: %s", self.name, error)
            return None
        return SlotEvent.FAILED if self._failure else SlotEvent.LOADED

    def _watch(self) -> SlotEvent | None:
        job, serving = self._current_job(), self._serving
        assert serving
        self._reporter.say(job, LifecycleState.SOAKING)
        self._soaks_in = serving.pid
        version = str(self._bench.store.manifest(job.manifest).version)
        candidate = Candidate(self.name, version, job.manifest, serving.inference_url)
        self._soak = Soak(candidate, self._bench.health, job.soak_s)
        return None

    def _advance_soak(self, serving: ServingStatus) -> SlotEvent | None:
        assert self._soak
        if serving.pid != self._soaks_in:
            return SlotEvent.CRASHED
        verdict = self._soak.poll()
        if isinstance(verdict, Failure):
            self._failure = verdict
            return SlotEvent.FAILED
        return SlotEvent.SOAKED if verdict else None

    def _confirm(self) -> SlotEvent | None:
        self._bench.journal.commit_slot(self.name, self.record.confirm())
        self._reporter.say(self._current_job(), LifecycleState.HEALTHY)
        return self._finish()

    def _give_up(self) -> SlotEvent | None:
        assert self._failure
        if self._failure.code != Code.PARTIAL_BUNDLE:
            self._bundle.break_up(self, self._failure)
        self._bench.journal.commit_slot(self.name, self._refusing(self.record))
        return self._finish()

    def _revert(self) -> SlotEvent | None:
        self.stop()
        self._bench.journal.commit_slot(self.name, self._refusing(self.record.end_trial()))
        self._standing.restore()
        return self._finish()

    def _clear(self) -> SlotEvent | None:
        self.stop()
        self._bench.journal.commit_slot(self.name, self.record.empty())
        self._standing.restore()
        return self._finish()

    # What the commands are made of.

    def _current_job(self) -> Job:
        assert self._job
        return self._job

    def _refusing(self, record: SlotRecord) -> SlotRecord:
        if self._failure and self._failure.refuses:
            job = self._current_job()
            return record.refuse(job.manifest, self._failure.refusal(job.counter))
        return record

    def _finish(self) -> SlotEvent | None:
        """Come to rest: say what failed, if anything, and let go of the candidate."""
        self.stop()
        if self._failure:
            self._reporter.say(self._current_job(), LifecycleState.FAILED, self._failure)
            if not self._failure.refuses:
                self._postpone()
        self._job = self._failure = None
        self._tidy()
        return None

    def _postpone(self) -> None:
        self._failures += 1
        self._not_before = time.monotonic() + retry_s(self._failures, self._bench.retries, self._bench.random)
