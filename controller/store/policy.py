"""The policy as one snapshot, together with the place in the change log at which it was taken."""

from typing import NamedTuple

from controller.domain.desired_state import Policy
from controller.store import changes, groups, rollouts, variant_rules
from controller.store.database import Transaction
from controller.store.variants import published_variants


class PolicySnapshot(NamedTuple):
    """A policy, and the sequence up to which it holds every change."""

    policy: Policy
    seq: int


def load_policy(tx: Transaction) -> PolicySnapshot:
    """Read the policy. The sequence comes first, so the policy is never older than it claims."""
    seq = changes.last_seq(tx)
    pins = rollouts.all_pins(tx)
    that_matter = tuple(rollouts.rollouts_that_matter(tx))
    versions = {pin.version_id for pin in pins} | {rollout.to_version for rollout in that_matter}
    known = groups.all_groups(tx) if versions else {}
    rules = variant_rules.all_rules(tx) if versions else ()
    published = published_variants(tx, sorted(versions))
    return PolicySnapshot(Policy(known, pins, that_matter, published, rules), seq)
