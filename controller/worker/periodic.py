"""What every sweep does besides variants. Each entry does nothing when nothing is due."""

import time
from datetime import datetime

from controller.use_cases.advance_rollout import advance_rollouts
from controller.use_cases.forget_changes import forget_changes
from controller.use_cases.learn_factors import learn_factors
from controller.use_cases.mark_silent import mark_silent
from controller.use_cases.search_variants import advance_searches
from controller.use_cases.sweep import Hook
from controller.wiring import Services

HOUSEKEEPING_S = 300.0


def periodic_work(services: Services) -> dict[str, Hook]:
    """Return the hooks in the order in which they run: silence is an outcome that rollouts then act on."""
    database = services.database
    return {
        "mark_silent": lambda now: mark_silent(database, now=now),
        "advance_searches": lambda now: advance_searches(database, now=now),
        "advance_rollouts": lambda now: advance_rollouts(database, now=now),
        "learn_factors": every(HOUSEKEEPING_S, lambda now: learn_factors(database, now=now)),
        "refresh_metadata": every(HOUSEKEEPING_S, services.image_repository.refresh),
        "forget_changes": every(HOUSEKEEPING_S, lambda now: forget_changes(database, now=now)),
        "remove_abandoned": every(HOUSEKEEPING_S, lambda _now: services.blobs.remove_abandoned()),
    }


def every(interval_s: float, hook: Hook) -> Hook:
    """Return the hook so that it runs at its first call and then once in `interval_s`; a failed run counts."""
    due_s = 0.0

    def run(now: datetime) -> object:
        nonlocal due_s
        if time.monotonic() < due_s:
            return None
        due_s = time.monotonic() + interval_s
        return hook(now)

    return run
