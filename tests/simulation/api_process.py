"""A simulated API process: the real poll cache over the real use cases, with requests that wait for a common batch."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from controller.api.device.poll_cache import PollCache, etag_of
from controller.domain.ids import DeviceId
from controller.use_cases.follow_changes import read_policy
from controller.use_cases.record_reports import Receipt
from device_agent.protocol.messages import ReportBatch, parse_report_batch
from tests.simulation.scenario import MINUTE_S
from tests.simulation.virtual_device import Answer
from tests.simulation.world import ProcessKilledError, Step, World

BATCH_S = 60.0
"""How long a request may wait for others."""
FOLLOW_S = 4 * MINUTE_S
"""How long a process may answer without having looked for changes."""
DEAF_AFTER = timedelta(seconds=FOLLOW_S)
"""After so long without a word from the change log a process asks the database instead of its memory."""
DEAF_SHARE = 0.01
"""Share of the looks for changes that the database does not answer for a while."""


@dataclass(frozen=True)
class Poll:
    """A device that waits for an answer."""

    device_id: DeviceId
    shown: int | None
    answer: Callable[[Answer], None]


@dataclass(frozen=True)
class Delivery:
    """A device that waits for an acknowledgement."""

    device_id: DeviceId
    batch: ReportBatch
    acknowledge: Callable[[], None]


class ApiProcess:
    """One of several processes that answer devices."""

    def __init__(self, name: str, world: World, random: Random) -> None:
        """Start, with a clock that is a few seconds off."""
        self.name = name
        self._world = world
        self._random = random
        self._skew_s = random.uniform(-20, 20)
        self._polls: list[Poll] = []
        self._deliveries: list[Delivery] = []
        self._is_busy = False
        self._restart()

    @property
    def steps(self) -> tuple[Step, ...]:
        """What this process may do while another one is in the middle of something."""
        return (
            (f"{self.name} answers", self._flush_polls),
            (f"{self.name} records", self._flush_deliveries),
            (f"{self.name} follows", self._follow),
        )

    def poll(self, device_id: DeviceId, shown: int | None, answer: Callable[[Answer], None]) -> None:
        """Answer from memory where that is allowed, else together with whoever comes within the next seconds."""
        good = None if self._is_deaf() else self._cache.good_etag(device_id, self._now())
        if shown is not None and good == etag_of(shown):
            answer(Answer(shown, None))
            return
        if not self._polls:
            self._plan("answers", self._random.uniform(0, BATCH_S), self._flush_polls)
        self._polls.append(Poll(device_id, shown, answer))

    def report(self, device_id: DeviceId, body: bytes, acknowledge: Callable[[], None]) -> None:
        """Take a batch; it is recorded together with others of the next seconds."""
        if not self._deliveries:
            self._plan("records", self._random.uniform(0, BATCH_S), self._flush_deliveries)
        self._deliveries.append(Delivery(device_id, parse_report_batch(body), acknowledge))

    def _flush_polls(self) -> None:
        self._once_at_a_time(self._answer_polls)

    def _flush_deliveries(self) -> None:
        self._once_at_a_time(self._record_deliveries)

    def _answer_polls(self) -> None:
        waiting, self._polls = self._polls, []
        if not waiting:
            return
        known = None if self._is_deaf() else self._cache.snapshot
        ids = list(dict.fromkeys(poll.device_id for poll in waiting))
        found = self._world.use_cases.issue_assignments(
            self._world.database, self._world.director, ids, known, poll_s=60.0, now=self._now()
        )
        # What was read is already out of date when others have written since.
        self._world.let_others_act()
        for current in found.of.values():
            self._cache.store(found.seq, current)
        for poll in waiting:
            current = found.of[poll.device_id]
            is_known = poll.shown == current.counter
            poll.answer(Answer(current.counter, None if is_known else current.envelope))

    def _record_deliveries(self) -> None:
        waiting, self._deliveries = self._deliveries, []
        if not waiting:
            return
        batches = [(delivery.device_id, delivery.batch) for delivery in waiting]
        receipts = self._world.use_cases.record_reports(self._world.database, batches, now=self._now())
        # Killed here, it has recorded what it never acknowledges.
        self._world.let_others_act()
        for delivery, receipt in zip(waiting, receipts, strict=True):
            assert receipt is not Receipt.DEVICE_UNKNOWN
            delivery.acknowledge()

    def _follow(self) -> None:
        self._cache.apply(self._world.use_cases.follow_changes(self._world.database, self._cache.position))
        self._heard_at = self._world.agenda.now
        is_cut_off = self._random.random() < DEAF_SHARE
        self._follow_at = self._world.now(self._random.uniform(0, (10 if is_cut_off else 1) * FOLLOW_S))

    def _is_deaf(self) -> bool:
        # A look in time for the next question is as good as one every few seconds, and costs the simulation less.
        if self._world.agenda.now >= self._follow_at:
            self._follow()
        return self._world.agenda.now - self._heard_at > DEAF_AFTER

    def _once_at_a_time(self, work: Callable[[], None]) -> None:
        if self._is_busy:
            return
        self._is_busy = True
        try:
            work()
        except ProcessKilledError:
            self._restart()
            raise
        finally:
            self._is_busy = False

    def _restart(self) -> None:
        self._polls, self._deliveries = [], []
        self._cache = PollCache(read_policy(self._world.database))
        self._heard_at = self._follow_at = self._world.agenda.now

    def _plan(self, what: str, delay_s: float, action: Callable[[], None]) -> None:
        self._world.agenda.after(delay_s, f"{self.name} {what}", action)

    def _now(self) -> datetime:
        return self._world.now(self._skew_s)
