"""What every sweep does besides variants. Each entry does nothing when nothing is due."""

import time
from datetime import datetime

from controller.trust.ceremonies import single_operator
from controller.use_cases.advance_rollout import advance_rollouts
from controller.use_cases.forget_challenges import forget_challenges
from controller.use_cases.forget_changes import forget_changes
from controller.use_cases.learn_factors import learn_factors
from controller.use_cases.mark_silent import mark_silent
from controller.use_cases.propose_release import ReleaseOffice
from controller.use_cases.search_variants import advance_searches
from controller.use_cases.sign_release import complete_releases
from controller.use_cases.sweep import Hook
from controller.use_cases.verify_audit import anchor_audit
from controller.wiring import Services

HOUSEKEEPING_S = 300.0
ANCHOR_S = 3600.0
DAY_S = 86_400.0


def periodic_work(services: Services) -> dict[str, Hook]:
    """Return the hooks in the order in which they run: silence is an outcome that rollouts then act on."""
    database = services.database
    office = ReleaseOffice(database, services.image_repository, services.settings.tuf_dir)
    return {
        "mark_silent": lambda now: mark_silent(database, now=now),
        "complete_releases": lambda now: complete_releases(office, now=now),
        "advance_searches": lambda now: advance_searches(database, now=now),
        "advance_rollouts": lambda now: advance_rollouts(database, now=now),
        "learn_factors": every(HOUSEKEEPING_S, lambda now: learn_factors(database, now=now)),
        "refresh_metadata": every(HOUSEKEEPING_S, services.image_repository.refresh),
        "renew_trust": every(DAY_S, lambda now: _renew_trust(services, now)),
        "forget_challenges": every(HOUSEKEEPING_S, lambda now: forget_challenges(database, now=now)),
        "forget_changes": every(HOUSEKEEPING_S, lambda now: forget_changes(database, now=now)),
        "anchor_audit": every(ANCHOR_S, lambda now: anchor_audit(database, services.signer, now=now)),
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


def _renew_trust(services: Services, now: datetime) -> None:
    # Elsewhere people sign for another year; `edgefleet key doctor` says when.
    if services.is_single_operator:
        settings = services.settings
        single_operator.ensure(settings.tuf_dir, settings.keys_dir / "offline", services.signer, now)
