"""A version with variants in every state, as rows: what workers would have stored, without any work."""

import hashlib
from datetime import datetime
from typing import Any

from sqlalchemy import insert

from controller.domain.catalog import VariantState
from controller.domain.costs import Cost
from controller.domain.ids import VersionId
from controller.domain.search import Budget, SearchState
from controller.store import catalog, tables
from controller.store.database import Database
from controller.use_cases.create_model import create_model
from tests.support.decisions import a_cost

Row = dict[str, Any]
VERSION = VersionId("ve_1")
SEARCH = "se_1"
SOURCE_BYTES = 26_000
GOLDEN_BYTES = 2_000
INSPECTION = {
    "inputs": [],
    "outputs": [],
    "opset": 17,
    "operators": ["Gemm", "Relu"],
    "precision": "fp32",
    "parameters": 6570,
    "memory_bytes": 53_000,
    "samples": 400,
    "calibration_samples": 0,
}


def digest(words: str) -> str:
    """Return the sha256 that stands for something."""
    return hashlib.sha256(words.encode()).hexdigest()


def evaluation(value: float, source_value: float = 0.905, *, samples: int = 400, **changes: Any) -> Row:
    """Return a stored evaluation by accuracy."""
    return {
        "metric": "accuracy",
        "value": value,
        "source_value": source_value,
        "agreement": 0.9975,
        "samples": samples,
        "golden_rows": 32,
        "absolute_tolerance": 0.009,
        "relative_tolerance": 0.001,
        "value_ci": [value - 0.03, value + 0.03],
        "source_ci": [source_value - 0.03, source_value + 0.03],
        "drop_ci": [source_value - value - 0.01, source_value - value + 0.01],
        "worst_class": {"class": 3, "value": 0.69, "source_value": 0.72, "samples": 39},
        "calibration": {"value": 0.047, "source_value": 0.046},
        "similarity": 0.99989,
        **changes,
    }


def step(name: str, size_bytes: int, **facts: Any) -> Row:
    """Return what is stored of one step."""
    made = {"model.onnx": digest(f"{name} {size_bytes}")}
    told = {"parameters": {"fraction": 0.5, "seed": None}, "seconds": 4.25, "reused": False, "files": made}
    return {"step": name, "facts": facts, "bytes": size_bytes, **told}


def layer(name: str, bits: int, sparsity: float, error: float | None) -> Row:
    """Return what is stored of one layer."""
    shape = {"operator": "MatMul", "shape": [64, 64], "parameters": 4096}
    return {"name": name, **shape, "bits": bits, "sparsity": sparsity, "error": error}


def variant_row(
    recipe: str,
    state: VariantState,
    *,
    file_bytes: int | None = None,
    steps: tuple[Row, ...] = (),
    layers: tuple[Row, ...] = (),
    costs: dict[str, Cost] | None = None,
    **changes: Any,
) -> Row:
    """Return a variant as it is stored; one with `file_bytes` was made, and packs to half of them."""
    row: Row = dict.fromkeys(("progress", "error", "wire_bytes", "files", "evaluation", "facts", "manifest_sha256"))
    row |= {"id": f"va_{recipe}", "recipe": recipe, "state": state, "attempts": 0, "search_id": None}
    row["costs"] = {name: cost.to_json() for name, cost in (costs or {}).items()}
    if file_bytes is not None:
        packed = {"sha256": digest(f"{recipe} packed"), "size_bytes": file_bytes // 2}
        model = {"sha256": digest(recipe), "size_bytes": file_bytes, "packed": packed}
        golden = {"sha256": digest(f"{recipe} golden"), "size_bytes": GOLDEN_BYTES, "packed": None}
        row["files"] = {"model.onnx": model, "golden.npz": golden}
        row["wire_bytes"] = file_bytes // 2 + GOLDEN_BYTES
        row["facts"] = {
            "recipe": {"name": recipe, "version": 2, "description": f"how {recipe} is made", "steps": list(steps)},
            "steps": list(steps),
            "model": INSPECTION,
            "source_bytes": SOURCE_BYTES,
            "bytes": file_bytes,
            "layers": list(layers),
        }
    return {**row, **changes}


def variant_rows() -> list[Row]:
    """Return variants that are published, set aside, refused, failed, at work and waiting."""
    cut = step("prune_structured", 12_000, parameters_before=6570, parameters_after=2778, recovery="least_squares")
    rounded = step("quantize_dynamic", 6_000, weights="int8", disagreement=0.0025, relative_error=0.015)
    layers = (layer("w1", 8, 0.5, 0.0097), layer("w2", 8, 0.03, None))
    slow = {"controller": a_cost(40.0, factor=2.0, peak_bytes=750_000, steady_bytes=700_000)}
    quick = {"controller": a_cost(20.0, peak_bytes=530_000), "camera": a_cost(90.0, peak_bytes=530_000)}
    signed = {"manifest_sha256": digest("manifest")}
    state = VariantState
    return [
        variant_row("failing", state.FAILED, error="the child was killed after 60 s"),
        variant_row("fp32", state.PUBLISHED, file_bytes=SOURCE_BYTES, costs=quick, evaluation=evaluation(0.905)),
        variant_row(
            "structured-int8",
            state.PUBLISHED,
            file_bytes=6_000,
            steps=(cut, rounded),
            layers=layers,
            costs=slow,
            evaluation=evaluation(0.895, 0.9, samples=200),
            search_id=SEARCH,
            **signed,
        ),
        variant_row("fp16", state.ASIDE, file_bytes=13_000, costs=quick, evaluation=evaluation(0.9025)),
        variant_row("palette", state.REFUSED, file_bytes=8_000, evaluation=evaluation(0.8), error="10.5 points lost"),
        variant_row(
            "int8",
            state.QUEUED,
            progress={"job": "quantize_dynamic", "share": 0.5, "words": "rounding <w1>", "number": 2, "of": 2},
        ),
        variant_row("slim", state.QUEUED),
    ]


def version_document(rows: list[Row]) -> Row:
    """Return a version with these variants as the API shows it."""
    return {
        "id": VERSION,
        "model": "digits",
        "number": 1,
        "format": "onnx",
        "state": "processing",
        "artifact": {"sha256": digest("upload"), "size_bytes": SOURCE_BYTES},
        "evaluation_sha256": digest("evaluation"),
        "calibration_sha256": None,
        "promise": {"metric": "accuracy", "drop_max": 0.02, "rule": "point"},
        "inspection": INSPECTION,
        "notes": "a <first> try",
        "created_at": "2026-01-31T12:00:00Z",
        "variants": rows,
    }


def store_version(database: Database, rows: list[Row], now: datetime) -> VersionId:
    """Write the model `digits` with version 1, these variants and a search that chose `structured-int8`."""
    shown = version_document(rows)
    create_model(database, shown["model"], "", now=now)
    kept = ("id", "number", "format", "promise", "inspection", "notes", "evaluation_sha256")
    with database.writing() as tx:
        for words, size_bytes in (("upload", SOURCE_BYTES), ("evaluation", 1000)):
            artifact = {"sha256": digest(words), "size_bytes": size_bytes, "created_at": now}
            tx.execute(insert(tables.artifact).values(artifact))
        version = {name: shown[name] for name in kept} | {"artifact_sha256": digest("upload"), "created_at": now}
        tx.execute(insert(tables.model_version).values(**version, model_id=catalog.model_named(tx, shown["model"])))
        search = {
            "id": SEARCH,
            "version_id": VERSION,
            "budget": Budget(size=20_000.0, drop=0.02).to_json(),
            "profile": "controller",
            "thorough": True,
            "publish": True,
            "state": SearchState.DONE,
            "explanation": "structured-int8: the smallest of 3 that keep the budget",
            "chosen_variant_id": "va_structured-int8",
            "created_at": now,
            "updated_at": now,
        }
        tx.execute(insert(tables.search).values(search))
        for row in rows:
            tx.execute(insert(tables.variant).values(**row, version_id=VERSION, created_at=now, updated_at=now))
    return VERSION
