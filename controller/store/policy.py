"""The policy as one snapshot, together with the place in the change log at which it was taken."""

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import select

from controller.domain.catalog import PublishedVariant, VariantState
from controller.domain.desired_state import Policy
from controller.domain.ids import VariantId, VersionId
from controller.store import changes, groups, rollouts, tables
from controller.store.database import Transaction
from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import Runtime

_variant = tables.variant


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
    return PolicySnapshot(Policy(known, pins, that_matter, published_variants(tx, versions)), seq)


def published_variants(
    tx: Transaction, versions: Collection[VersionId]
) -> dict[VersionId, tuple[PublishedVariant, ...]]:
    """Return what devices may run of each version that has anything published."""
    """Return the variants of the versions that devices may run."""
    query = select(_variant).where(
        _variant.c.version_id.in_(sorted(versions)), _variant.c.state == VariantState.PUBLISHED
    )
    found: dict[VersionId, list[PublishedVariant]] = defaultdict(list)
    for row in tx.execute(query.order_by(_variant.c.id)):
        version_id = VersionId(row.version_id)
        variant = PublishedVariant(
            id=VariantId(row.id),
            version_id=version_id,
            name=row.recipe,
            runtime=Runtime.read(Fields(row.runtime, "runtime")),
            target=row.target,
            manifest_sha256=row.manifest_sha256,
            manifest_bytes=row.manifest_bytes,
            wire_bytes=row.wire_bytes,
        )
        found[version_id].append(variant)
    return {version_id: tuple(variants) for version_id, variants in found.items()}
