"""The sweep: derive every piece of work that is due from the database, and send it. Losing any message is fine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from controller.domain.catalog import NEXT_TASK, VariantEvent, transition
from controller.store import variants
from controller.store.database import Database, add_event
from controller.store.variants import Waiting
from controller.use_cases.task_queue import TaskQueue

BATCH_MAX = 8
"""Variants handled in one sweep. Those left over come in the next one, long before workers run dry."""

Hook = Callable[[datetime], object]
"""Other periodic work, given the moment. It must do nothing when nothing is due."""
_log = structlog.get_logger()


@dataclass(frozen=True)
class Sweep:
    """What one sweep did."""

    sent: int
    given_up: int
    broken: tuple[str, ...]
    """Hooks that raised; they run again in the next sweep."""


def sweep(database: Database, tasks: TaskQueue, hooks: Mapping[str, Hook], *, now: datetime) -> Sweep:
    """Give up variants without attempts left, send tasks for the others, then run every hook by its name."""
    with database.reading() as tx:
        exhausted = variants.exhausted_variants(tx, now, BATCH_MAX)
        due = variants.due_variants(tx, now, BATCH_MAX)
    given_up = sum(_give_up(database, variant, now) for variant in exhausted)
    for variant in due:
        tasks.send(NEXT_TASK[variant.state], variant.id)
    broken = tuple(name for name, hook in hooks.items() if not _run(name, hook, now))
    return Sweep(len(due), given_up, broken)


def _give_up(database: Database, exhausted: Waiting, now: datetime) -> bool:
    reason = exhausted.error or "its worker was killed each time, so the model may be what kills it"
    error = f"given up after {exhausted.attempts} attempts: {reason}"
    state = transition(exhausted.state, VariantEvent.GAVE_UP)
    with database.writing() as tx:
        done = variants.give_up(tx, exhausted, state, error, now)
        if done:
            add_event(tx, now, "sweep", f"variant.{state}", exhausted.version_id, f"{exhausted.recipe}: {error}")
    return done


def _run(name: str, hook: Hook, now: datetime) -> bool:
    try:
        hook(now)
    except Exception:  # noqa: BLE001  # one broken hook must not keep the others from running
        _log.exception("periodic work broke", hook=name)
        return False
    return True
