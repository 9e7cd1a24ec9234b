"""The threads of a worker process: one Celery worker for jobs, one for sweeps, and beat.

Threads suffice, because what takes processor time runs in confined children; they are never forked, so that
database connections and the runtime stay whole.
"""

import os
import secrets
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import celery.worker.state
from celery import Celery, beat
from celery.concurrency.thread import TaskPool
from celery.worker import WorkController
from celery.worker.consumer import Consumer
from celery.worker.loops import synloop

from controller.wiring import Services
from controller.worker.app import JOBS_QUEUE, SWEEP, SWEEPS_QUEUE, create_celery
from controller.worker.periodic import periodic_work
from controller.worker.schedule import BeatLease, LeaseScheduler, sweep_schedule
from controller.worker.tasks import register_sweep, register_variant_tasks, workshop

DRAIN_S = 0.1


class _Pool(TaskPool):  # type: ignore[misc]
    # Celery looks a task up in the application of the thread it runs on, and a new thread has none.
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.executor = ThreadPoolExecutor(max_workers=self.limit, initializer=self.app.set_current)


class _OftenLooking:
    """A connection on which waiting for messages never takes long.

    Over Redis a worker whose hands are full asks for no message, and then waits to its time's end although its hands
    are empty again: two seconds, in Celery's own loop.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def drain_events(self, timeout: float) -> None:
        """Handle the next message; `socket.timeout` when there is none."""
        self._connection.drain_events(timeout=min(timeout, DRAIN_S))


class _Consumer(Consumer):  # type: ignore[misc]
    def loop(self, consumer: Any, connection: Any, *rest: Any) -> None:
        synloop(consumer, _OftenLooking(connection), *rest)


class _ThreadWorker(WorkController):  # type: ignore[misc]
    def should_use_eventloop(self) -> bool:
        # Celery has one event loop a process, and two workers live in this one.
        return False


class WorkerThreads:
    """Everything that works in this process. One instance a process: Celery stops all workers of a process at once."""

    def __init__(self, services: Services) -> None:
        """Build the workers; nothing runs before `start`."""
        owner = new_owner()
        settings = services.settings
        # An application each: which queues are consumed is kept in the application, not in the worker.
        jobs, self._sweeps = create_celery(settings.broker_url), create_celery(settings.broker_url)
        shop = workshop(services, owner, jobs)
        register_variant_tasks(jobs, shop)
        register_sweep(self._sweeps, shop, periodic_work(services))
        self._lease = BeatLease(services.database, owner, services.clock)
        self._sweeps.conf.beat_schedule = sweep_schedule(settings.sweep_s)
        scheduler = partial(LeaseScheduler, lease=self._lease)
        self._beat = beat.Service(self._sweeps, max_interval=settings.sweep_s, scheduler_cls=scheduler)
        runs = {
            "jobs": _worker(jobs, JOBS_QUEUE, owner, concurrency=os.cpu_count() or 1).start,
            "sweeps": _worker(self._sweeps, SWEEPS_QUEUE, owner, concurrency=1).start,
            "beat": self._beat.start,
        }
        self._threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]

    def start(self) -> None:
        """Start the threads and sweep once, for what was left by whoever worked here before."""
        for thread in self._threads:
            thread.start()
        self.sweep_now()

    def sweep_now(self) -> None:
        """Ask for a sweep out of turn."""
        self._sweeps.send_task(SWEEP)

    def are_alive(self) -> bool:
        """Tell whether every thread is still there; one that is not has broken."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Take no more work, finish what is in hand, and return when all threads have ended."""
        celery.worker.state.should_stop = 0
        self._beat.stop()
        for thread in self._threads:
            thread.join()
        self._lease.release()


def new_owner() -> str:
    """Return a name for this process that no other has had, at most 64 characters."""
    return f"{socket.gethostname()[:32]}:{os.getpid()}:{secrets.token_hex(4)}"


def _worker(app: Celery, queue: str, owner: str, concurrency: int) -> Any:
    return _ThreadWorker(
        app=app,
        hostname=f"{queue}@{owner}",
        queues=[queue],
        pool_cls=_Pool,
        consumer_cls=_Consumer,
        concurrency=concurrency,
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
    )
