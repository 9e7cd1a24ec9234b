"""The use cases that a simulated controller runs: the real ones, unless a test puts a broken one in their place."""

from collections.abc import Callable
from dataclasses import dataclass

from controller.use_cases.advance_rollout import advance_rollouts
from controller.use_cases.approve_rollout import approve_rollout
from controller.use_cases.create_rollout import RolloutPreview, create_rollout
from controller.use_cases.follow_changes import Changes, follow_changes
from controller.use_cases.issue_assignments import CurrentAssignments, issue_assignments
from controller.use_cases.mark_silent import mark_silent
from controller.use_cases.record_reports import Receipt, record_reports
from controller.use_cases.set_pin import set_pin
from controller.use_cases.steer_rollout import steer_rollout


@dataclass(frozen=True)
class UseCases:
    """What processes do in the database. A rule is broken on purpose by replacing one of them."""

    advance_rollouts: Callable[..., int] = advance_rollouts
    approve_rollout: Callable[..., None] = approve_rollout
    create_rollout: Callable[..., RolloutPreview] = create_rollout
    follow_changes: Callable[..., Changes] = follow_changes
    issue_assignments: Callable[..., CurrentAssignments] = issue_assignments
    mark_silent: Callable[..., int] = mark_silent
    record_reports: Callable[..., list[Receipt]] = record_reports
    set_pin: Callable[..., object] = set_pin
    steer_rollout: Callable[..., None] = steer_rollout
