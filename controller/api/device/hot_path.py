"""What polls and reports share within one process: the cache, its ear on the database, and the batches.

Queries run on the synchronous engine in a few threads of their own; the event loop never waits for the database.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import structlog

from controller.api.device.batching import Batcher, Limits
from controller.api.device.known_sessions import KnownSessions
from controller.api.device.poll_cache import PollCache
from controller.api.device.report_checks import CheckedReport, ReportChecks, SentReport
from controller.domain.errors import Unavailable
from controller.domain.ids import DeviceId
from controller.store.database import Database
from controller.trust.director import Director
from controller.trust.identity.sessions import Sessions
from controller.use_cases.follow_changes import follow_changes, read_policy
from controller.use_cases.issue_assignments import CurrentAssignment, issue_assignments
from controller.use_cases.record_reports import Receipt, record_reports
from controller.use_cases.record_seen import record_seen
from device_agent.protocol.messages import ReportBatch

FOLLOW_S = 0.25
"""How often changes are looked for: how long a device may be told that nothing is new when something is."""
DEAF_AFTER_S = 5.0
"""A process that has not heard from the change log for so long no longer trusts its memory."""
SEEN_S = 2.0
"""How often the devices' last polls are written; a process that is killed forgets this much of them."""
ANSWER_WITHIN_S = 20.0
"""A device that waits longer is told to come again, whatever becomes of its request."""

POLL_LIMITS = Limits(lanes=1, batch_items=500, batch_weight=500, waiting_weight=20_000)
CHECK_LANES = 2
"""Threads that check signatures at the same time; the library lets them run beside each other."""
REPORT_BYTES = {"batch_weight": 4 * 2**20, "waiting_weight": 64 * 2**20}

T = TypeVar("T")
_log = structlog.get_logger()


class HotPath:
    """Answers polls and takes reports. `start` and `stop` belong into the application's lifespan."""

    def __init__(
        self,
        database: Database,
        director: Director,
        sessions: Sessions,
        *,
        poll_s: float,
        report_lanes: int,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parts; `report_lanes` transactions write reports at a time (one is best on SQLite)."""
        self._database = database
        self._director = director
        self._sessions = KnownSessions(sessions)
        self._poll_s = poll_s
        self.clock = clock
        self._monotonic = monotonic
        self._cache: PollCache | None = None
        self._deaf_after = 0.0
        self._seen: dict[DeviceId, datetime] = {}
        self._executor = ThreadPoolExecutor(3 + CHECK_LANES + report_lanes, thread_name_prefix="device-api")
        self._polls = Batcher(self._load, POLL_LIMITS)
        self._report_checks = ReportChecks(database)
        self._sent = Batcher(self._check, Limits(CHECK_LANES, batch_items=500, **REPORT_BYTES))
        self._reports = Batcher(self._record, Limits(report_lanes, batch_items=500, **REPORT_BYTES))
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read the policy and begin to follow changes; Unavailable when the database does not answer."""
        await self.read_policy()
        self._loops = [
            asyncio.create_task(_repeat(self.follow, FOLLOW_S)),
            asyncio.create_task(_repeat(self.write_seen, SEEN_S)),
        ]

    async def stop(self) -> None:
        """End the loops and write what is still in memory. Requests must have been answered before."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        try:
            await self.write_seen()
        finally:
            await asyncio.to_thread(self._executor.shutdown)

    def identify(self, authorization: bytes, now: datetime) -> DeviceId | None:
        """Return whose session the Authorization header shows, None when it is over or never was."""
        return self._sessions.device_of(authorization, now)

    def good_etag(self, device_id: DeviceId, now: datetime) -> bytes | None:
        """Return the tag of the device's good assignment, if it is known without asking the database."""
        if self._cache is None or not self._hears():
            return None
        etag = self._cache.good_etag(device_id, now)
        if etag is not None:
            self._seen[device_id] = now
        return etag

    async def assignment(self, device_id: DeviceId) -> CurrentAssignment | None:
        """Return the device's good assignment from the database, issued now where needed; None if it is unknown."""
        current = await _in_time(self._polls.put(device_id))
        if current:
            self._seen[device_id] = self.clock()
        return current

    async def report(self, report: SentReport) -> Receipt:
        """Check a report and record it; returns after it is durable. Raises what refuses it."""
        return await _in_time(self._take(report))

    async def read_policy(self) -> None:
        """Begin with an empty memory under the present policy."""
        asked_at = self._monotonic()
        self._cache = PollCache(await self._in_thread(lambda: read_policy(self._database)))
        self._deaf_after = asked_at + DEAF_AFTER_S

    async def follow(self) -> None:
        """Apply what other processes, and this one, have changed since the last call. Never twice at a time."""
        cache, asked_at = self._started(), self._monotonic()
        changes = await self._in_thread(lambda: follow_changes(self._database, cache.position))
        cache.apply(changes)
        self._report_checks.keys.forget(changes.devices, everything=changes.everything, position=changes.position)
        # Not the time of the answer: an answer that was long on its way tells of an old state.
        self._deaf_after = asked_at + DEAF_AFTER_S

    async def write_seen(self) -> None:
        """Write when devices polled last; what cannot be written is kept for the next call."""
        seen, self._seen = self._seen, {}
        try:
            await self._in_thread(lambda: record_seen(self._database, seen))
        except Exception:
            self._seen = {**seen, **self._seen}
            raise

    async def _load(self, ids: list[DeviceId]) -> list[CurrentAssignment | None]:
        cache, now = self._started(), self.clock()
        # A deaf process does not know whether its policy still holds.
        known = cache.snapshot if self._hears() else None
        found = await self._in_thread(
            lambda: issue_assignments(self._database, self._director, ids, known, poll_s=self._poll_s, now=now)
        )
        for current in found.of.values():
            cache.store(found.seq, current)
        return [found.of.get(device_id) for device_id in ids]

    async def _take(self, report: SentReport) -> Receipt:
        checked = await self._sent.put(report, len(report.body))
        if isinstance(checked, Exception):
            raise checked
        return await self._reports.put((report.device, checked), len(report.body))

    async def _check(self, sent: list[SentReport]) -> list[CheckedReport]:
        trusts_memory = self._hears()
        return await self._in_thread(lambda: self._report_checks.check(sent, trusts_memory=trusts_memory))

    async def _record(self, batches: list[tuple[DeviceId, ReportBatch]]) -> list[Receipt]:
        now = self.clock()
        return await self._in_thread(lambda: record_reports(self._database, batches, now=now))

    def _hears(self) -> bool:
        return self._monotonic() <= self._deaf_after

    def _started(self) -> PollCache:
        if self._cache is None:
            raise RuntimeError("neither start nor read_policy has been awaited")
        return self._cache

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


async def _repeat(step: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - the loop must outlive every fault of the database
            _log.warning("device api: will try again", step=step.__name__, error=repr(error))


async def _in_time(answer: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await answer
    except TimeoutError as error:
        raise Unavailable("the database is slow to answer; try again", code="database_slow") from error
