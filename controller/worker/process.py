"""The life of a worker process: start the threads, wait for the end, leave with nothing half done."""

import logging
import os
import signal
import sys
import threading

from controller.wiring import Services
from controller.worker.threads import WorkerThreads

LOOK_S = 1.0


def run_worker(services: Services, *, until_stdin_ends: bool = False) -> None:
    """Work until SIGTERM or SIGINT, then finish what is in hand. Exits with 1 when a thread broke.

    `until_stdin_ends`: every byte on standard input asks for a sweep, and its end means that the parent is gone.
    """
    # Celery tells of every message at INFO; what matters of the work is logged by the work itself.
    logging.getLogger("celery").setLevel(logging.WARNING)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    threads = WorkerThreads(services)
    threads.start()
    if until_stdin_ends:
        threading.Thread(target=_listen, args=(threads, stopping), name="stdin", daemon=True).start()
    while not stopping.wait(LOOK_S):
        if not threads.are_alive():
            sys.exit(1)
    threads.stop()


def _listen(threads: WorkerThreads, stopping: threading.Event) -> None:
    # Read as they come: bytes that came together are one sweep.
    while os.read(sys.stdin.fileno(), 4096):
        threads.sweep_now()
    stopping.set()
