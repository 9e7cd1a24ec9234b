"""Beat: sends the sweep every `sweep_s`, from one process at a time however many run it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from celery import beat

from controller.domain.errors import Unavailable
from controller.store.database import Database
from controller.store.leases import release_lease, take_lease
from controller.worker.app import SWEEP, SWEEPS_QUEUE

LEASE = "beat"
LEASE_S = 5.0
"""How long sweeps pause at most when the process that sent them was killed."""


def sweep_schedule(sweep_s: float) -> dict[str, Any]:
    """Return Celery's schedule. A sweep that nobody ran before the next one is due is dropped."""
    return {SWEEP: {"task": SWEEP, "schedule": sweep_s, "options": {"expires": sweep_s, "queue": SWEEPS_QUEUE}}}


class BeatLease:
    """The row lease that lets one beat among many send."""

    def __init__(self, database: Database, owner: str, clock: Callable[[], datetime]) -> None:
        """Take who this process is, and its clock; clocks of several hosts may differ by less than LEASE_S."""
        self._database = database
        self._owner = owner
        self._clock = clock
        self._renew_at: datetime | None = None

    def is_held(self) -> bool:
        """Take or renew the lease when due; False while another process has it, or while nobody can tell."""
        now = self._clock()
        if self._renew_at is not None and now < self._renew_at:
            return True
        try:
            with self._database.writing() as tx:
                held = take_lease(tx, LEASE, self._owner, until=now + timedelta(seconds=LEASE_S), now=now)
        except Unavailable:
            held = False
        self._renew_at = now + timedelta(seconds=LEASE_S / 2) if held else None
        return held

    def release(self) -> None:
        """Give the lease back, so that a successor starts at once."""
        try:
            with self._database.writing() as tx:
                release_lease(tx, LEASE, self._owner)
        except Unavailable:
            return  # then it runs out by itself


class LeaseScheduler(beat.Scheduler):  # type: ignore[misc]
    """Celery's scheduler in memory, which ticks only while its process holds the lease."""

    def __init__(self, *arguments: Any, lease: BeatLease, **options: Any) -> None:
        """Take the lease beside what `beat.Service` passes."""
        self._lease = lease
        super().__init__(*arguments, **options)

    def tick(self, *arguments: Any, **options: Any) -> float:
        """Send what is due if the lease is held; return the seconds until the next look."""
        if not self._lease.is_held():
            return LEASE_S / 4
        wait_s: float = super().tick(*arguments, **options)
        return min(wait_s, LEASE_S / 4)
