"""Queries about what variants cost: the classes to measure for, and what their devices report."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Text, cast, func, select

from controller.domain.catalog import VariantState
from controller.domain.costs import CONTROLLER, Cost, DeviceClass, LearnedFactor
from controller.domain.ids import VariantId
from controller.store import tables
from controller.store.database import upsert
from controller.store.devices import read_profile
from device_agent.protocol.fields import Fields
from device_agent.protocol.histogram import Histogram, merge
from device_agent.protocol.profile import DeviceProfile

CLASSES_MAX = 8
"""Every variant is measured for so many classes, seconds each; devices of further ones are served by precision."""
PROFILES_MAX = 1000
ENGINE = "onnxruntime"
REPORTS_MAX = 2000
"""So many of the newest reports speak for the fleet; reading them takes some hundred milliseconds."""
_device, _variant, _serving, _factor = tables.device, tables.variant, tables.serving_report, tables.class_factor


@dataclass(frozen=True)
class ReportedLatency:
    """What devices of one class have reported about one published variant that was measured for it."""

    variant_id: VariantId
    device_class: str
    cost: Cost
    latency: Histogram


def device_classes(tx: Connection) -> list[DeviceClass]:
    """Return the classes of the enrolled devices that variants can be measured for, those with most devices first.

    Where profiles of one name differ, the least memory and the fewest threads among them stand for the class.
    Classes without the controller's engine are left out, and so is the built-in one.
    """
    profile = cast(_device.c.profile, Text)
    query = select(profile.label("profile"), func.count().label("devices")).group_by(profile)
    profiles: dict[str, list[DeviceProfile]] = defaultdict(list)
    devices: dict[str, int] = defaultdict(int)
    for row in tx.execute(query.order_by(func.count().desc(), profile).limit(PROFILES_MAX)):
        found = read_profile(row.profile)
        if found.engine == ENGINE and found.name != CONTROLLER.name:
            profiles[found.name].append(found)
            devices[found.name] += row.devices
    most_first = sorted(profiles, key=lambda name: (-devices[name], name))
    return [
        DeviceClass(name, min(p.threads for p in profiles[name]), min(p.memory_bytes for p in profiles[name]))
        for name in most_first[:CLASSES_MAX]
    ]


def class_factors(tx: Connection) -> dict[str, float]:
    """Return what is known of how many times longer a class takes than the controller."""
    return {row.profile: row.factor for row in tx.execute(select(_factor.c.profile, _factor.c.factor))}


def save_factors(tx: Connection, factors: Mapping[str, LearnedFactor], now: datetime) -> None:
    """Write factors by class; those of other classes stay."""
    rows = [{"profile": name, **vars(learned), "updated_at": now} for name, learned in sorted(factors.items())]
    statement = upsert(tx, _factor)
    changed = {name: statement.excluded[name] for name in ("factor", "variants", "requests", "updated_at")}
    tx.execute(statement.on_conflict_do_update(index_elements=["profile"], set_=changed), rows)


def reported_latencies(tx: Connection, at_most: int = REPORTS_MAX) -> list[ReportedLatency]:
    """Return, out of the newest reports, the latencies of every published variant by class of devices."""
    newest = select(_serving).order_by(_serving.c.id.desc()).limit(at_most).subquery()
    published = _variant.c.state == VariantState.PUBLISHED
    query = (
        select(_variant.c.id, cast(_device.c.profile, Text).label("profile"), newest.c.latency)
        .join(_variant, _variant.c.manifest_sha256 == newest.c.manifest_sha256)
        .join(_device, _device.c.id == newest.c.device_id)
        .where(published, newest.c.requests > 0)
        .order_by(newest.c.id)
    )
    found: dict[tuple[str, str], list[Histogram]] = defaultdict(list)
    for row in tx.execute(query):
        latency = Histogram.read(Fields(row.latency, "latency"))
        found[row.id, read_profile(row.profile).name].append(latency)
    costs = _costs(tx, {variant_id for variant_id, _ in found})
    return [
        ReportedLatency(VariantId(variant_id), name, costs[variant_id][name], merge(latencies))
        for (variant_id, name), latencies in found.items()
        if name in costs[variant_id]
    ]


def _costs(tx: Connection, variant_ids: set[str]) -> dict[str, dict[str, Cost]]:
    rows = tx.execute(select(_variant.c.id, _variant.c.costs).where(_variant.c.id.in_(sorted(variant_ids))))
    return {row.id: {name: Cost.from_json(cost) for name, cost in (row.costs or {}).items()} for row in rows}
