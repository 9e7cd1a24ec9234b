"""Compress a variant: run its recipe over the source in a confined child and keep the result.

A recipe without steps needs no child: its result is the upload.
"""

from dataclasses import asdict

from controller.artifacts import jobs
from controller.artifacts.blob_store import StoredBlob
from controller.artifacts.findings import Compression, Inspection
from controller.artifacts.recipes import RECIPES, Recipe
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.ids import VariantId
from controller.use_cases.variant_work import Finding, Job, Workshop, work_on


def compress_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move a queued variant to compressed; returns as `work_on` does."""
    return work_on(shop, variant_id, VariantState.QUEUED, _compress)


def _compress(shop: Workshop, job: Job) -> Finding:
    recipe = RECIPES[job.claim.recipe]
    source_bytes = shop.blobs.size_bytes(job.version.artifact_sha256)
    stored, made = _run(shop, job, recipe) if recipe.steps else _source(shop, job)
    return Finding(
        VariantEvent.COMPRESS_DONE,
        f"{source_bytes} bytes became {stored.size_bytes}",
        {
            "artifact_sha256": stored.sha256,
            "facts": {
                "recipe": recipe.to_json(),
                "steps": list(made.steps),
                "model": made.model.to_json(),
                "source_bytes": source_bytes,
                "bytes": stored.size_bytes,
            },
            "runtime": asdict(made.model.runtime),
        },
        (stored,),
    )


def _run(shop: Workshop, job: Job, recipe: Recipe) -> tuple[StoredBlob, Compression]:
    source = shop.blobs.path(job.version.artifact_sha256)
    evaluation = job.version.evaluation_sha256
    calibration = shop.blobs.path(evaluation) if evaluation else None
    with shop.blobs.scratch() as scratch:
        target = scratch / "variant.onnx"
        made = jobs.compress(recipe.name, source, target, calibration, shop.limits, job.heartbeat)
        return shop.blobs.add_file(target), made


def _source(shop: Workshop, job: Job) -> tuple[StoredBlob, Compression]:
    # Without steps the variant is the upload, and the inspection has described that already.
    assert job.version.inspection is not None
    sha256 = job.version.artifact_sha256
    inspected = Inspection.from_json(job.version.inspection)
    return StoredBlob(sha256, shop.blobs.size_bytes(sha256)), Compression(inspected.model, ())
