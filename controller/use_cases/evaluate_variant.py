"""Evaluate a variant beside its source, make its golden tensors, and hold it to the promise."""

from controller.artifacts import jobs
from controller.artifacts.findings import Evaluation
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.ids import VariantId
from controller.use_cases.variant_work import Finding, Job, Workshop, work_on

ROUNDING = 1e-9
"""Shares are binary fractions: a drop of exactly the limit must not fail for its last bit."""


def evaluate_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move a compressed variant to evaluated, or to refused when it breaks the promise; returns as `work_on` does."""
    return work_on(shop, variant_id, VariantState.COMPRESSED, _evaluate)


def broken_promise(found: Evaluation, accuracy_drop_max: float) -> str | None:
    """Return in words how the variant breaks the promise; None when it keeps it or when none could be made.

    The promise: the variant's accuracy is at most `accuracy_drop_max` below its source's on the same samples.
    """
    if found.value is None or found.source_value is None:
        return None
    drop = found.source_value - found.value
    if drop <= accuracy_drop_max + ROUNDING:
        return None
    return (
        f"accuracy {found.value:.4f} is {drop * 100:.2f} points below the source's {found.source_value:.4f} on "
        f"{found.samples} samples; at most {accuracy_drop_max * 100:g} points are promised (accuracy_drop_max)"
    )


def _evaluate(shop: Workshop, job: Job) -> Finding:
    claim, version = job.claim, job.version
    assert claim.artifact_sha256, "a compressed variant has an artifact"
    evaluation = shop.blobs.path(version.evaluation_sha256) if version.evaluation_sha256 else None
    with shop.blobs.scratch() as scratch:
        golden_file = scratch / "golden.npz"
        found = jobs.evaluate(
            shop.blobs.path(version.artifact_sha256),
            shop.blobs.path(claim.artifact_sha256),
            golden_file,
            evaluation,
            shop.limits,
            job.heartbeat,
        )
        golden = shop.blobs.add_file(golden_file)
    broken = broken_promise(found, shop.accuracy_drop_max)
    return Finding(
        VariantEvent.PROMISE_BROKEN if broken else VariantEvent.PROMISE_KEPT,
        broken or _words(found),
        {
            "golden_sha256": golden.sha256,
            "evaluation": found.to_json(),
            "wire_bytes": shop.blobs.size_bytes(claim.artifact_sha256) + golden.size_bytes,
            "error": broken,
        },
        (golden,),
    )


def _words(found: Evaluation) -> str:
    if found.value is None or found.source_value is None:
        return f"no evaluation data, so nothing is promised; {found.golden_rows} golden rows were drawn"
    return (
        f"accuracy {found.value:.4f}, the source's is {found.source_value:.4f} on {found.samples} samples; "
        f"{found.golden_rows} golden rows"
    )
