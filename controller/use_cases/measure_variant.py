"""Measure what an evaluated variant costs on every class of devices, before it is published or set aside.

The figures are frozen with the variant: which variant a device gets must not change because something was measured
again. A search's candidates are measured for the search's class alone.
"""

from dataclasses import replace
from pathlib import Path

from controller.artifacts import jobs
from controller.artifacts.child_process import Heartbeat
from controller.artifacts.processor import processor_name
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.costs import CONTROLLER, Cost, DeviceClass
from controller.domain.ids import VariantId
from controller.store.costs import class_factors, device_classes
from controller.store.searches import search_by_id
from controller.use_cases.remembered_work import Made, Piece, once
from controller.use_cases.variant_work import Finding, Job, Workshop, work_on
from device_agent.protocol.manifest import GOLDEN_FILE

ROOM = 4
"""A class whose memory is this many times the measured peak is not measured apart."""


def measure_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move an evaluated variant to measured, or aside when a search asked for it; returns as `work_on` does."""
    return work_on(shop, variant_id, VariantState.EVALUATED, _measure)


def _measure(shop: Workshop, job: Job) -> Finding:
    with shop.database.reading() as tx:
        classes = [CONTROLLER, *device_classes(tx)]
        factors = class_factors(tx)
        search = search_by_id(tx, job.claim.search_id) if job.claim.search_id else None
    is_candidate = search is not None and search.chosen != job.claim.id
    if search and is_candidate:
        classes = [one for one in classes if one.name == search.profile] or [CONTROLLER]
    costs: dict[str, Cost] = {}
    for number, one in enumerate(classes, start=1):
        known = costs.get(CONTROLLER.name)
        spared = known is not None and _is_far_from_limits(one, known)
        cost = known if known and spared else _cost(shop, job.at(number, len(classes)), one)
        costs[one.name] = replace(cost, memory_bytes=one.memory_bytes, factor=factors.get(one.name, 1.0))
    return Finding(
        VariantEvent.SET_ASIDE if is_candidate else VariantEvent.MEASURE_DONE,
        "; ".join(f"{name}: {_words(cost)}" for name, cost in costs.items()),
        {"costs": {**(job.claim.costs or {}), **{name: cost.to_json() for name, cost in costs.items()}}},
    )


def _is_far_from_limits(device_class: DeviceClass, known: Cost) -> bool:
    # A limit that is nowhere near changes nothing: what was measured without one holds for the class too.
    if known.peak_bytes is None or device_class.threads != known.threads:
        return False
    return device_class.memory_bytes is None or device_class.memory_bytes >= ROOM * known.peak_bytes


def _cost(shop: Workshop, job: Job, device_class: DeviceClass) -> Cost:
    files = job.claim.files or {}
    depends_on = {
        "files": {name: entry["sha256"] for name, entry in files.items()},
        "threads": device_class.threads,
        "memory_bytes": device_class.memory_bytes,
        "processor": processor_name(),
    }

    def work(scratch: Path, heartbeat: Heartbeat) -> Made:
        model = shop.model_file(files, scratch)
        inputs = shop.blobs.path(files[GOLDEN_FILE]["sha256"])
        lock = shop.blobs.lock_file("measurement")
        return jobs.measure(model, inputs, device_class, shop.limits, heartbeat, lock).to_json(), {}

    done = once(shop, job, Piece("measure", depends_on), work)
    return Cost.from_json(done.result)


def _words(cost: Cost) -> str:
    latency_us = cost.corrected(cost.p50_us)
    if latency_us is None or cost.peak_bytes is None:
        return cost.reason or "does not fit"
    return f"{latency_us / 1000:.3g} ms an answer, {cost.peak_bytes / 1e6:.3g} MB at the peak"
