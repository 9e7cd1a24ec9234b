"""Evaluate a variant beside its source, make its golden tensors, and hold it to the promise."""

from pathlib import Path

from controller.artifacts import jobs
from controller.artifacts.child_process import Heartbeat
from controller.artifacts.findings import Comparison, Evaluation
from controller.artifacts.metric_plugins import metric_release
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.ids import VariantId
from controller.domain.promise import POINT, Promise, broken, compared
from controller.store.attestations import AttestationKind
from controller.store.searches import search_by_id
from controller.trust.lineage.provenance import GOLDEN_STEP
from controller.use_cases.attest_work import attest_judgement, attest_step, step_run
from controller.use_cases.compress_variant import judged_on_other_rows, recipe_of
from controller.use_cases.remembered_work import Made, Piece, Remembered, once
from controller.use_cases.variant_work import Attested, Finding, Job, Workshop, work_on
from device_agent.protocol.manifest import GOLDEN_FILE


def evaluate_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move a compressed variant to evaluated, or to refused when it breaks the promise; returns as `work_on` does."""
    return work_on(shop, variant_id, VariantState.COMPRESSED, _evaluate)


def promise_of(shop: Workshop, job: Job) -> Promise:
    """Return what the variant must keep: its version's promise, with a search's own limit of the drop in its place."""
    stored = job.version.promise
    promise = Promise.from_json(stored) if stored else Promise(drop_max=shop.accuracy_drop_max)
    if job.claim.search_id is None:
        return promise
    with shop.database.reading() as tx:
        drop = search_by_id(tx, job.claim.search_id).budget.drop
    return promise if drop is None else Promise(promise.metric, drop, POINT)


def _evaluate(shop: Workshop, job: Job) -> Finding:
    assert job.claim.files, "a compressed variant has files"
    promise = promise_of(shop, job)
    done = _judge(shop, job, promise.metric)
    comparison = Comparison.from_json(done.result)
    found = comparison.evaluation
    why_not = broken(found.figures(), promise)
    sha256 = done.files[GOLDEN_FILE]
    golden = {"sha256": sha256, "size_bytes": shop.blobs.size_bytes(sha256), "packed": None}
    files = {**job.claim.files, GOLDEN_FILE: golden}
    return Finding(
        VariantEvent.PROMISE_BROKEN if why_not else VariantEvent.PROMISE_KEPT,
        why_not or _words(found),
        {
            "golden_sha256": golden["sha256"],
            "files": files,
            "evaluation": found.to_json(),
            "facts": {**(job.claim.facts or {}), "layers": list(comparison.layers)},
            "wire_bytes": sum((entry["packed"] or entry)["size_bytes"] for entry in files.values()),
            "error": why_not,
        },
        attested=_attested(shop, job, promise, done, comparison, why_not),
    )


def _attested(
    shop: Workshop, job: Job, promise: Promise, done: Remembered, comparison: Comparison, why_not: str | None
) -> Attested:
    evaluation_sha256 = job.version.evaluation_sha256
    data = {"evaluation": evaluation_sha256} if evaluation_sha256 else {}
    files = _files(job)
    parameters = {"rows": comparison.evaluation.golden_rows}
    # The golden tensors are drawn by the job that judges; they come after every step of the recipe.
    number = len(recipe_of(job).steps) + 1
    drawn = attest_step(shop, step_run(job, number, GOLDEN_STEP, parameters, files, data, done))
    judged = attest_judgement(
        shop,
        job,
        done,
        files=files,
        data=data,
        figures=comparison.evaluation.figures(),
        promise=promise.to_json(),
        why_not=why_not,
        words=_words(comparison.evaluation),
    )
    return Attested(frozenset({AttestationKind.GOLDEN, AttestationKind.EVALUATION}), (drawn, judged))


def _files(job: Job) -> dict[str, str]:
    return {name: entry["sha256"] for name, entry in (job.claim.files or {}).items() if name != GOLDEN_FILE}


def _judge(shop: Workshop, job: Job, metric: str) -> Remembered:
    version = job.version
    held_out = version.evaluation_sha256 is not None and judged_on_other_rows(recipe_of(job), job.claim, version)
    depends_on = {
        "source": version.artifact_sha256,
        "files": _files(job),
        "evaluation": version.evaluation_sha256,
        "metric": metric,
        "metric_release": metric_release(metric),
        "held_out": held_out,
    }

    def work(scratch: Path, heartbeat: Heartbeat) -> Made:
        golden = scratch / GOLDEN_FILE
        found = jobs.evaluate(
            shop.blobs.path(version.artifact_sha256),
            shop.model_file(job.claim.files or {}, scratch),
            golden,
            shop.blobs.path(version.evaluation_sha256) if version.evaluation_sha256 else None,
            shop.limits,
            heartbeat,
            metric=metric,
            held_out=held_out,
        )
        return found.to_json(), {GOLDEN_FILE: golden}

    return once(shop, job.at(1, 1), Piece("evaluate", depends_on), work)


def _words(found: Evaluation) -> str:
    if found.value is None:
        return f"no evaluation data, so nothing is promised; {found.golden_rows} golden rows were drawn"
    return f"{compared(found.figures())}; {found.golden_rows} golden rows"
