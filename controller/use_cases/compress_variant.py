"""Compress a variant: run its recipe step by step, each in a confined child, and keep what every step made.

The steps are chained by digest, so a worker that takes over begins at the first step that nobody has finished. At
the end the files are packed for the wire. A recipe without steps has the upload as its result.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from controller.artifacts import jobs
from controller.artifacts.blob_store import StoredBlob
from controller.artifacts.child_process import Heartbeat
from controller.artifacts.findings import ALL_ROWS, EVEN_ROWS, MAIN_FILE, Inspection, ModelFacts, StepResult
from controller.artifacts.recipes import RECIPES, Recipe, StepUse, parse_recipe
from controller.artifacts.steps.parameters import STEPS
from controller.domain.catalog import ModelVersion, VariantEvent, VariantState
from controller.domain.ids import VariantId
from controller.store.attestations import LINEAGE, Attestation
from controller.store.variants import Claim
from controller.use_cases.attest_work import attest_step, step_run
from controller.use_cases.remembered_work import Made, Piece, Remembered, once
from controller.use_cases.variant_work import Attested, Finding, Job, Workshop, work_on

Files = dict[str, dict[str, Any]]
"""Name of a file on devices to its blob: `sha256`, `size_bytes`, and `packed` with the same two, or None."""


def compress_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move a queued variant to compressed; returns as `work_on` does."""
    return work_on(shop, variant_id, VariantState.QUEUED, _compress)


def recipe_of(job: Job) -> Recipe:
    """Return the recipe as it was when the variant was asked for."""
    document = job.claim.recipe_document
    return parse_recipe(document) if document else RECIPES[job.claim.recipe]


def judged_on_other_rows(recipe: Recipe, claim: Claim, version: ModelVersion) -> bool:
    """Tell whether the recipe learns from the evaluation data, so that only the other half of it may judge.

    So it is with every candidate of a search, for they are compared with each other.
    """
    return version.calibration_sha256 is None and (recipe.calibrates or claim.search_id is not None)


def _compress(shop: Workshop, job: Job) -> Finding:
    recipe = recipe_of(job)
    assert job.version.inspection is not None
    model = Inspection.from_json(job.version.inspection).model
    made: dict[str, str] = {MAIN_FILE: job.version.artifact_sha256}
    steps, stated = [], []
    jobs_in_all = len(recipe.steps) + 1
    for number, use in enumerate(recipe.steps, start=1):
        done = _step(shop, job.at(number, jobs_in_all), use, made)
        stated.append(_attest(shop, job, number, use, made, done))
        steps.append(_told(shop, use, done))
        made, model = done.files, StepResult.from_json(done.result).model
    files = {name: _packed(shop, job.at(jobs_in_all, jobs_in_all), sha256) for name, sha256 in sorted(made.items())}
    return _finding(shop, job, recipe, model, files, steps, stated)


def _step(shop: Workshop, job: Job, use: StepUse, before: dict[str, str]) -> Remembered:
    calibration = _calibration(job.version)
    depends_on = {
        "files": before,
        "version": STEPS[use.step].version,
        "parameters": use.parameters,
        "calibration": calibration,
    }

    def work(scratch: Path, heartbeat: Heartbeat) -> Made:
        given = calibration and (shop.blobs.path(calibration[0]), calibration[1])
        source = shop.blobs.path(before[MAIN_FILE])
        found = jobs.run_step(use.step, use.parameters, source, scratch, given, shop.limits, heartbeat)
        return found.to_json(), {name: scratch / name for name in found.files}

    return once(shop, job, Piece(use.step, depends_on), work)


def _told(shop: Workshop, use: StepUse, done: Remembered) -> dict[str, Any]:
    return {
        "step": use.step,
        "parameters": msgspec.to_builtins(use.read()),
        "facts": StepResult.from_json(done.result).facts,
        "bytes": sum(shop.blobs.size_bytes(sha256) for sha256 in done.files.values()),
        "seconds": round(done.seconds, 3),
        "reused": done.reused,
        "files": dict(done.files),
    }


def _attest(
    shop: Workshop, job: Job, number: int, use: StepUse, before: dict[str, str], done: Remembered
) -> Attestation:
    calibration = _calibration(job.version)
    role = "calibration" if job.version.calibration_sha256 else "evaluation"
    data = {role: calibration[0]} if calibration else {}
    return attest_step(shop, step_run(job, number, use.step, msgspec.to_builtins(use.read()), before, data, done))


def _calibration(version: ModelVersion) -> tuple[str, str] | None:
    if version.calibration_sha256:
        return version.calibration_sha256, ALL_ROWS
    return (version.evaluation_sha256, EVEN_ROWS) if version.evaluation_sha256 else None


def _packed(shop: Workshop, job: Job, sha256: str) -> dict[str, Any]:
    def work(scratch: Path, heartbeat: Heartbeat) -> Made:
        target = scratch / "packed"
        size = jobs.pack(shop.blobs.path(sha256), target, shop.limits, heartbeat)
        return {"packed": size is not None}, {"packed": target} if size is not None else {}

    found = once(shop, job, Piece("pack", {"sha256": sha256}), work)
    packed = found.files.get("packed")
    return {**_blob(shop, sha256), "packed": _blob(shop, packed) if packed else None}


def _blob(shop: Workshop, sha256: str) -> dict[str, Any]:
    return {"sha256": sha256, "size_bytes": shop.blobs.size_bytes(sha256)}


def _finding(
    shop: Workshop,
    job: Job,
    recipe: Recipe,
    model: ModelFacts,
    files: Files,
    steps: Sequence[dict[str, Any]],
    stated: Sequence[Attestation],
) -> Finding:
    source_bytes = shop.blobs.size_bytes(job.version.artifact_sha256)
    size = sum(entry["size_bytes"] for entry in files.values())
    wire = sum((entry["packed"] or entry)["size_bytes"] for entry in files.values())
    stored = [entry for held in files.values() for entry in (held, held["packed"]) if entry]
    return Finding(
        VariantEvent.COMPRESS_DONE,
        f"{source_bytes} bytes became {size}, {wire} on the wire",
        {
            "artifact_sha256": files[MAIN_FILE]["sha256"],
            "files": files,
            "wire_bytes": wire,
            "facts": {
                "recipe": recipe.to_json(),
                "steps": list(steps),
                "model": model.to_json(),
                "source_bytes": source_bytes,
                "bytes": size,
            },
            "runtime": asdict(model.runtime),
        },
        tuple(StoredBlob(entry["sha256"], entry["size_bytes"]) for entry in stored),
        Attested(LINEAGE, tuple(stated)),
    )
