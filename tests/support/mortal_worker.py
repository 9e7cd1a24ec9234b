"""A worker that moves one variant on, and is killed while the job that it was told is at work.

    python -m tests.support.mortal_worker FOLDER VARIANT JOB

The jobs are observed from outside, through the interpreter's audit events, so the code under test has no hooks of its
own. Each job that was started is a line of `FOLDER/jobs.txt`. JOB `none` lets it live.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import select

from controller.domain.catalog import NEXT_TASK, VariantState
from controller.domain.ids import VariantId
from controller.store import tables
from controller.store.database import Database, open_engine
from controller.wiring import system_clock
from controller.worker.tasks import VARIANT_TASKS
from tests.support.workshops import CollectedTasks, open_workshop

KILLED_AFTER_S = 0.02
"""Sooner than the job's process can have begun its work, let alone ended it."""
LEASE_S = 2.0
JOBS = "jobs.txt"
_MODULE = 6


def main(folder: Path, variant_id: VariantId, mortal_job: str) -> None:
    """Move the variant on until it rests."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and "controller.artifacts.confinement" in arguments[1]:
            _started(folder, _name_of(arguments[1]), mortal_job)

    sys.addaudithook(watch)
    engine = open_engine(f"sqlite:///{folder / 'controller.db'}")
    owner = f"worker-{os.getpid()}"
    shop = open_workshop(Database(engine), folder, CollectedTasks(), system_clock, lease_s=LEASE_S, owner=owner)
    while (state := _state(shop.database, variant_id)) in NEXT_TASK:
        VARIANT_TASKS[NEXT_TASK[state]](shop, variant_id)


def _name_of(command: list[str]) -> str:
    module = command[_MODULE].rpartition(".")[2]
    return command[_MODULE + 1] if module == "step_job" else module


def _started(folder: Path, job: str, mortal_job: str) -> None:
    with (folder / JOBS).open("a") as file:
        file.write(f"{job}\n")
    if job == mortal_job:
        threading.Timer(KILLED_AFTER_S, os.kill, (os.getpid(), signal.SIGKILL)).start()


def _state(database: Database, variant_id: VariantId) -> VariantState:
    with database.reading() as tx:
        query = select(tables.variant.c.state).where(tables.variant.c.id == variant_id)
        return VariantState(tx.execute(query).scalar_one())


if __name__ == "__main__":
    main(Path(sys.argv[1]), VariantId(sys.argv[2]), sys.argv[3])
