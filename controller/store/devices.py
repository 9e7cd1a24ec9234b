"""Queries about devices: the facts that their desired state depends on, and when they were last seen."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Text, and_, cast, func, or_, select

from controller.domain.device_states import DeviceState
from controller.domain.fleet import Device
from controller.domain.ids import DeviceId, RolloutId
from controller.domain.rollout import OPEN_STATES, RolloutState
from controller.store import tables
from controller.store.database import Transaction, upsert
from device_agent.protocol.fields import Fields
from device_agent.protocol.profile import DeviceProfile

_device, _refusal, _outcome, _rollout = tables.device, tables.refusal, tables.outcome, tables.rollout


def load_devices(tx: Transaction, ids: Iterable[DeviceId]) -> dict[DeviceId, Device]:
    """Return the approved devices among the ids, with refusals and rollouts taken: three queries for any number."""
    wanted = list(ids)
    refused, took = _refused(tx, wanted), _took(tx, wanted)
    # The profile as text, which is the key under which its parsed form is remembered.
    profile = cast(_device.c.profile, Text).label("profile")
    columns = (_device.c.id, _device.c.name, profile, _device.c.labels, _device.c.encryption_key)
    query = select(*columns).where(_device.c.id.in_(wanted))
    rows = tx.execute(query.where(_device.c.state == DeviceState.APPROVED))
    return {
        DeviceId(row.id): Device(
            DeviceId(row.id),
            row.name,
            read_profile(row.profile),
            row.labels,
            frozenset(refused[row.id]),
            frozenset(took[row.id]),
            row.encryption_key,
        )
        for row in rows
    }


def lock_devices(tx: Transaction, ids: Iterable[DeviceId]) -> set[DeviceId]:
    """Let no other transaction assign to these devices or apply their reports until this one ends.

    Returns those that exist. Always locks in the order of the ids, so that two batches never wait for each other;
    SQLite has one writer anyway.
    """
    ordered = select(_device.c.id).where(_device.c.id.in_(list(ids))).order_by(_device.c.id)
    return set(map(DeviceId, tx.execute(ordered.with_for_update(key_share=True)).scalars()))


def record_seen(tx: Transaction, seen: Mapping[DeviceId, datetime]) -> None:
    """Keep the latest moment at which each device was seen."""
    if not seen:
        return
    rows = [{"device_id": device_id, "at": at} for device_id, at in sorted(seen.items())]
    statement = upsert(tx, tables.device_seen)
    stored, new = tables.device_seen.c.at, statement.excluded.at
    later = func.greatest(stored, new) if tx.dialect.name == "postgresql" else func.max(stored, new)
    tx.execute(statement.on_conflict_do_update(index_elements=["device_id"], set_={"at": later}), rows)


@lru_cache(maxsize=1024)
def read_profile(text: str) -> DeviceProfile:
    """Read a stored profile. A fleet has few profiles and many devices: each is read once, and shared."""
    return DeviceProfile.read(Fields.from_json(text, "profile"))


def _refused(tx: Transaction, ids: list[DeviceId]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    query = select(_refusal.c.device_id, _refusal.c.manifest_sha256).where(_refusal.c.device_id.in_(ids))
    for device_id, manifest in tx.execute(query):
        found[device_id].add(manifest)
    return found


def _took(tx: Transaction, ids: list[DeviceId]) -> dict[str, set[RolloutId]]:
    # The rollouts of `rollouts.rollouts_that_matter`; the ended others cannot change a desired state.
    aborted_first = and_(_rollout.c.state == RolloutState.ABORTED, _rollout.c.from_version_id.is_(None))
    query = (
        select(_outcome.c.device_id, _outcome.c.rollout_id)
        .distinct()
        .join(_rollout, _rollout.c.id == _outcome.c.rollout_id)
        .where(_outcome.c.device_id.in_(ids), or_(_rollout.c.state.in_(OPEN_STATES), aborted_first))
    )
    found: dict[str, set[RolloutId]] = defaultdict(set)
    for device_id, rollout_id in tx.execute(query):
        found[device_id].add(RolloutId(rollout_id))
    return found
