"""The report of a version: what went in, what every recipe made of it, what that costs, and where it comes from.

Nothing is computed here that was not stored: figures are put beside each other, durations are corrected by the
class's factor, ratios and differences are taken.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from controller.domain.catalog import NEXT_TASK, VariantState
from controller.domain.costs import Cost
from controller.domain.ids import VersionId
from controller.domain.search import SearchState
from controller.store.views import catalog, searches
from controller.store.views.step_words import headline
from device_agent.protocol.manifest import GOLDEN_FILE

Document = dict[str, Any]
_STANDING = [
    VariantState.PUBLISHED,
    VariantState.ASIDE,
    *reversed(NEXT_TASK),
    VariantState.REFUSED,
    VariantState.FAILED,
    VariantState.CANCELLED,
]
"""In which order variants are shown: what devices may run first, what came to nothing last."""


def report(tx: Connection, version_id: VersionId) -> Document:
    """Return the report of one version that exists."""
    return report_of(catalog.version_with_layers(tx, version_id), searches.searches(tx, version_id))


def report_of(version: Document, found: list[Document]) -> Document:
    """Return the report of a version and its searches, both as the API shows them."""
    variants = sorted((_variant(version, one) for one in version["variants"]), key=_rank)
    kept = ("model", "number", "format", "state", "notes", "created_at", "promise")
    return {
        **{name: version[name] for name in kept},
        "evaluation_sha256": version["evaluation_sha256"],
        "calibration_sha256": version["calibration_sha256"],
        "source": _source(version),
        "at_work": any(one["at_work"] for one in variants) or any(_runs(search) for search in found),
        "classes": sorted({name for one in variants for name in one["costs"]}),
        "variants": variants,
        "searches": found,
    }


def _runs(search: Document) -> bool:
    return SearchState(search["state"]) is SearchState.RUNNING


def _rank(variant: Document) -> tuple[int, float, str]:
    wire = variant["sizes"]["wire_bytes"]
    standing = _STANDING.index(VariantState(variant["state"]))
    return standing, float("inf") if wire is None else wire, variant["recipe"]


def _source(version: Document) -> Document:
    """Return what was uploaded; what only a variant can tell comes from the one that keeps the upload as it is."""
    inspection = version["inspection"] or {}
    facts = {name: inspection.get(name) for name in ("precision", "opset", "operators", "parameters", "samples")}
    as_it_is = next((one for one in version["variants"] if _is_plain(one["facts"])), None)
    return {
        "sha256": version["artifact"]["sha256"],
        "bytes": version["artifact"]["size_bytes"],
        **facts,
        "memory_estimate_bytes": inspection.get("memory_bytes"),
        "variant": as_it_is["recipe"] if as_it_is else None,
        "wire_bytes": as_it_is["wire_bytes"] if as_it_is else None,
        "memory": _memory(as_it_is["costs"]) if as_it_is else {},
        "layers": (as_it_is["facts"].get("layers") or []) if as_it_is else [],
        "evaluation": _source_evaluation(one["evaluation"] for one in version["variants"]),
    }


def _is_plain(facts: Document | None) -> bool:
    return facts is not None and "recipe" in facts and not facts["recipe"]["steps"]


def _source_evaluation(evaluations: Iterable[Document | None]) -> Document | None:
    """Return the source's own figures from the evaluation that saw most samples; None without one."""
    known = [one for one in evaluations if one and one.get("source_value") is not None]
    most = max(known, key=lambda one: one["samples"], default=None)
    if most is None:
        return None
    return {
        "metric": most["metric"],
        "value": most["source_value"],
        "value_ci": most.get("source_ci"),
        "samples": most["samples"],
        "calibration_error": (most.get("calibration") or {}).get("source_value"),
    }


def _variant(version: Document, variant: Document) -> Document:
    facts = variant["facts"] or {}
    recipe = facts.get("recipe") or {}
    kept = ("id", "recipe", "state", "progress", "error", "attempts", "search_id")
    return {
        **{name: variant[name] for name in kept},
        "recipe_version": recipe.get("version"),
        "description": recipe.get("description") or "",
        "at_work": VariantState(variant["state"]) in NEXT_TASK,
        "sizes": _sizes(version["artifact"]["size_bytes"], variant, facts),
        "evaluation": _evaluation(variant["evaluation"]),
        "costs": {name: _cost(Cost.from_json(cost)) for name, cost in (variant["costs"] or {}).items()},
        "model": _model(facts.get("model")),
        "steps": _steps(facts),
        "layers": facts.get("layers") or [],
        "lineage": _lineage(version, variant, facts),
    }


def _model(model: Document | None) -> Document | None:
    shown = ("precision", "opset", "operators", "parameters", "memory_bytes")
    return {name: model[name] for name in shown} if model else None


def _sizes(source_bytes: int, variant: Document, facts: Document) -> Document:
    """Return file (what a device stores, without the golden tensors), wire (all that travels, packed) and memory."""
    files = variant["files"] or {}
    model_files = [entry for name, entry in files.items() if name != GOLDEN_FILE]
    file_bytes, wire_bytes = facts.get("bytes"), variant["wire_bytes"]
    return {
        "file_bytes": file_bytes,
        "wire_bytes": wire_bytes,
        "packed_bytes": sum((entry["packed"] or entry)["size_bytes"] for entry in model_files) if files else None,
        "golden_bytes": files[GOLDEN_FILE]["size_bytes"] if GOLDEN_FILE in files else None,
        "file_ratio": _ratio(source_bytes, file_bytes),
        "wire_ratio": _ratio(source_bytes, wire_bytes),
        "memory": _memory(variant["costs"]),
    }


def _ratio(before: int, after: int | None) -> float | None:
    return round(before / after, 3) if after else None


def _memory(costs: Mapping[str, Document] | None) -> Document:
    return {name: cost["peak_bytes"] for name, cost in (costs or {}).items()}


def _evaluation(evaluation: Document | None) -> Document | None:
    if evaluation is None:
        return None
    value, source_value = evaluation.get("value"), evaluation.get("source_value")
    drop = None if value is None or source_value is None else source_value - value
    optional = ("value_ci", "source_ci", "drop_ci", "worst_class", "calibration", "similarity")
    return {**dict.fromkeys(optional), **evaluation, "drop": drop}


def _cost(cost: Cost) -> Document:
    corrected = {name: cost.corrected(getattr(cost, name)) for name in ("p50_us", "p90_us", "p99_us")}
    return {**cost.to_json(), **corrected, "measured_p50_us": cost.p50_us}


def _steps(facts: Document) -> list[Document]:
    before, found = facts.get("source_bytes"), []
    for step in facts.get("steps") or []:
        words = {"headline": headline(step["facts"])}
        found.append({**step, **words, "bytes_before": before, "bytes_after": step["bytes"]})
        before = step["bytes"]
    return found


def _lineage(version: Document, variant: Document, facts: Document) -> list[Document]:
    """Return the way from the upload to the signed manifest: what each thing is called, and its digest if it has one.

    A step's output is there where its digest was kept.
    """
    recipe = facts.get("recipe")
    chain = [_link("source", "upload", version["artifact"]["sha256"])]
    if recipe:
        chain.append(_link("recipe", f"{recipe['name']} version {recipe['version']}"))
    for step in facts.get("steps") or []:
        made = step.get("files") or {"": None}
        chain += [_link("step", f"{step['step']} {name}".strip(), sha256) for name, sha256 in made.items()]
    for name, entry in (variant["files"] or {}).items():
        chain.append(_link("file", name, entry["sha256"]))
        if entry["packed"]:
            chain.append(_link("packed", name, entry["packed"]["sha256"]))
    if variant["manifest_sha256"]:
        chain.append(_link("manifest", "signed", variant["manifest_sha256"]))
    return chain


def _link(kind: str, name: str, sha256: str | None = None) -> Document:
    return {"kind": kind, "name": name, "sha256": sha256}
