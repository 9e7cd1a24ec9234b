"""The agent's loop: poll, verify, let every slot work, report; and keep the serving process up.

One thread does everything in small steps, so a soak or a download never keeps the agent from polling, and there is
nothing to lock. An error of the link, of a document or of a candidate is a value or a ProtocolError and ends in a
report or a log line; the active models go on serving through all of them.
"""

import logging
import sqlite3
import time
from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.bundle import Bundle
from device_agent.certificate import CertificateKeeper
from device_agent.clock import DeviceClock
from device_agent.controller_client import Fresh
from device_agent.controller_link import ControllerLink
from device_agent.director_trust import DirectorTrust, FetchRoot
from device_agent.errors import ServingUnavailableError
from device_agent.journal import Journal
from device_agent.protocol.assignment import Recipient, VerifiedAssignment, verify_assignment
from device_agent.protocol.errors import ProtocolError
from device_agent.reports import ReportSpool
from device_agent.serving_process import ServingProcess
from device_agent.slot_recovery import recover_slot
from device_agent.slot_reports import SlotReporter, Wanted
from device_agent.slot_worker import SlotWorker
from device_agent.slots import ModelStore
from device_agent.staleness import Staleness
from device_agent.stopping import StopSignal
from device_agent.time_question import TimeQuestion
from device_agent.workbench import Workbench

_log = logging.getLogger(__name__)
_SUPERVISE_S = 1.0
"""How long a dead serving process may go unnoticed."""
_START_OVER_S = 5.0


@dataclass(frozen=True)
class AgentParts:
    """What an agent is made of; `wiring.build_agent` puts it together."""

    recipient: Recipient
    journal: Journal
    store: ModelStore
    spool: ReportSpool
    serving: ServingProcess
    link: ControllerLink
    director: DirectorTrust
    fetch_director_root: FetchRoot
    clock: DeviceClock
    time: TimeQuestion
    certificate: CertificateKeeper
    bench: Workbench
    report_interval_s: float


class Agent:
    """One device at work."""

    def __init__(self, parts: AgentParts) -> None:
        """Nothing happens before `run`."""
        self._parts = parts
        self._workers: dict[str, SlotWorker] = {}
        self._bundle = Bundle(parts.journal, self._workers.values)
        self._staleness = Staleness()
        self._recovered = False
        self._next_window = time.monotonic() + parts.report_interval_s

    def run(self, stop: StopSignal) -> None:
        """Work until told to stop; the serving process is stopped with the agent."""
        while not stop.wait(self._turn_or_start_over()):
            continue
        _log.info("stopping")
        self._stop_workers()
        self._collect_window()
        self._parts.serving.stop()
        self._parts.spool.close()

    def _turn_or_start_over(self) -> float:
        """Take a turn; when the operating system fails it (a full disk), go on from the disk, as after a start."""
        try:
            return self._turn()
        except (OSError, sqlite3.Error) as error:
            _log.exception("the operating system failed the agent; going on from what is on disk")
            self._stop_workers()
            self._recovered = False
            self._parts.link.reject(str(error))
            return _START_OVER_S

    def _stop_workers(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def _recover(self) -> None:
        parts = self._parts
        for name in parts.journal.record.slots:
            self._worker(name).resume(recover_slot(name, parts.journal, parts.store))
        self._recovered = True

    def _turn(self) -> float:
        """Do everything that is due; return for how many seconds there is nothing to do."""
        if not self._recovered:
            self._recover()
        link = self._parts.link
        serving = self._parts.serving.ensure()
        fresh = link.poll_when_due()
        if fresh:
            self._take(fresh)
        waits = [worker.step(serving) for worker in self._workers.values()]
        if time.monotonic() >= self._next_window:
            self._next_window = time.monotonic() + self._parts.report_interval_s
            self._collect_window()
        link.deliver()
        self._parts.certificate.renew_when_due(link, self._now())
        self._staleness.notice(self._parts.journal.record, self._now())
        return min([_SUPERVISE_S, link.due_in_s, max(0.0, self._next_window - time.monotonic()), *waits])

    def _take(self, fresh: Fresh) -> None:
        """Verify an assignment and hand it to the slots; one that does not pass changes nothing."""
        try:
            assignment = self._parts.time.in_time(lambda: self._verify(fresh.body))
        except ProtocolError as error:
            _log.error("assignment not accepted: %s", error)
            self._parts.link.reject("the assignment was not acceptable")
            return
        self._parts.link.accept(fresh, assignment.poll_s)
        for name, assigned in assignment.slots.items():
            self._worker(name).assign(Wanted(assignment.counter, assigned))
        self._tidy()

    def _verify(self, body: bytes) -> VerifiedAssignment:
        parts, record = self._parts, self._parts.journal.record
        now = self._now()
        parts.director.update(parts.fetch_director_root, now)
        assignment, mark = verify_assignment(
            body, root=parts.director.root, recipient=parts.recipient, mark=record.mark, now=now
        )
        # Remembered before it is acted on, so that nothing older is ever accepted after it.
        accepted = replace(record, mark=mark, director_issued=assignment.issued, assignment_expires=assignment.expires)
        parts.journal.commit(accepted)
        return assignment

    def _now(self) -> datetime:
        return self._parts.clock.now(self._parts.journal.record)

    def _worker(self, name: str) -> SlotWorker:
        worker = self._workers.get(name)
        if worker is None:
            parts = self._parts
            reporter = SlotReporter(name, parts.spool, parts.journal, parts.clock)
            worker = self._workers[name] = SlotWorker(name, parts.bench, reporter, self._bundle, self._tidy)
        return worker

    def _tidy(self) -> None:
        wanted = {worker.awaited_manifest for worker in self._workers.values()}
        self._parts.store.collect(self._parts.journal.record.manifests() | {name for name in wanted if name})

    def _collect_window(self) -> None:
        try:
            items = self._parts.serving.client.collect(self._now())
        except (ServingUnavailableError, ProtocolError) as error:
            _log.warning("no serving counts: %s", error)
            return
        if items:
            self._parts.spool.add(items)
