"""Approve a proposed rollout: another person than its proposer lets it begin."""

from datetime import datetime

from controller.domain.errors import InvalidInput
from controller.domain.planner import Plan
from controller.domain.rollout import Rollout, RolloutEvent
from controller.store import rollouts
from controller.store.database import Database, Transaction
from controller.store.variants import published_variants
from controller.trust.approvals import open_approval
from controller.use_cases.advance_rollout import apply_event
from controller.use_cases.two_persons import refuse_same_person
from device_agent.protocol.errors import ProtocolError


def approve_rollout(
    database: Database, rollout_id: str, *, actor: str, token_id: str, approval: str | None = None, now: datetime
) -> None:
    """Let the rollout begin, and keep the signed approval, which the signer verifies, where there is one.

    Forbidden(E_TWO_PERSON): the approver proposed it. Conflict: it is not proposed. InvalidInput: an approval that is
    malformed, has expired, or is about another rollout or other manifests.
    """
    with database.writing() as tx:
        rollout, _ = rollouts.rollout_by_id(tx, rollout_id, lock=True)
        refuse_same_person(rollout, actor, token_id)
        if approval is not None:
            _check(tx, rollout, approval, now)
            rollouts.keep_approval(tx, rollout.id, approval)
        words = f"proposed by {rollout.proposed_by}, approved by {actor}: stage 1 of {len(rollout.stages)} begins"
        begun = Plan(RolloutEvent.APPROVE, words)
        apply_event(tx, rollout, begun, actor=actor, now=now, audit="approved")


def manifests_to_approve(tx: Transaction, rollout: Rollout) -> tuple[str, ...]:
    """Return the manifests that the rollout may bring to devices on the channel `prod`."""
    published = published_variants(tx, [rollout.to_version]).get(rollout.to_version, ())
    return tuple(sorted(variant.manifest_sha256 for variant in published if variant.released))


def _check(tx: Transaction, rollout: Rollout, approval: str, now: datetime) -> None:
    try:
        _, said = open_approval(approval)
    except ProtocolError as error:
        raise _unfit(str(error)) from error
    if said.rollout != rollout.id:
        raise _unfit(f"it approves rollout {said.rollout}, and this is {rollout.id}")
    if said.expires <= now:
        raise _unfit(f"it expired at {said.expires.isoformat()}")
    missing = sorted(set(manifests_to_approve(tx, rollout)) - set(said.manifests))
    if missing:
        raise _unfit(f"it does not name the released manifests {', '.join(missing)}")


def _unfit(why: str) -> InvalidInput:
    return InvalidInput(
        f"the approval does not fit: {why}; sign another with `edgefleet rollout approve ID --key URI`",
        code="approval_unfit",
        field="/approval",
    )
