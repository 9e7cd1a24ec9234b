"""Publish a variant: build its manifest, prove it with the device's own code, sign it, tell the fleet."""

import hashlib
from datetime import datetime

from controller.artifacts import jobs
from controller.artifacts.errors import ProofFailed
from controller.artifacts.findings import MAIN_FILE, Evaluation, ModelFacts
from controller.artifacts.manifests import onnx_manifest, opaque_manifest
from controller.artifacts.recipes import OPAQUE
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.errors import InvalidInput
from controller.domain.ids import VariantId
from controller.store.database import Transaction, record_change
from controller.store.variants import lock_image_repository
from controller.use_cases.variant_work import Finding, Job, Workshop, work_on
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.manifest import GOLDEN_FILE, Manifest, parse_manifest, target_path


def publish_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move a measured variant to published; returns as `work_on` does.

    A worker that dies between signing and writing is harmless: the same facts give the same manifest, and signing
    a manifest twice changes nothing.
    """
    return work_on(shop, variant_id, VariantState.MEASURED, _publish)


def _publish(shop: Workshop, job: Job) -> Finding:
    manifest = _manifest(shop, job)
    content = manifest.to_bytes()
    try:
        parse_manifest(content)
        proof = _prove(shop, job, manifest, content)
    except (ProtocolError, ProofFailed) as error:
        raise InvalidInput(f"the manifest cannot be published: {error}", code="manifest_refused") from error

    def publish(tx: Transaction, now: datetime) -> None:
        lock_image_repository(tx, now)
        shop.image_repository.publish([content], now)
        record_change(tx, now)

    digest = hashlib.sha256(content).hexdigest()
    return Finding(
        VariantEvent.SIGNED,
        f"manifest {digest[:12]} is signed and published; {proof}",
        {
            "target": target_path(manifest.model, manifest.version, manifest.variant),
            "manifest_sha256": digest,
            "manifest_bytes": len(content),
        },
        publish=publish,
    )


def _manifest(shop: Workshop, job: Job) -> Manifest:
    claim, version = job.claim, job.version
    if claim.recipe == OPAQUE:
        return opaque_manifest(
            shop.blobs, model=version.model, version=version.number, source_sha256=version.artifact_sha256
        )
    assert claim.files is not None
    assert claim.facts is not None
    assert claim.evaluation is not None
    names = sorted(claim.files, key=lambda name: (name != MAIN_FILE, name == GOLDEN_FILE, name))
    return onnx_manifest(
        shop.blobs,
        model=version.model,
        version=version.number,
        recipe=claim.facts["recipe"],
        source_sha256=version.artifact_sha256,
        files={name: claim.files[name]["sha256"] for name in names},
        packed={name: claim.files[name]["packed"]["sha256"] for name in names if claim.files[name]["packed"]},
        facts=ModelFacts.from_json(claim.facts["model"]),
        evaluation=Evaluation.from_json(claim.evaluation),
    )


def _prove(shop: Workshop, job: Job, manifest: Manifest, content: bytes) -> str:
    if manifest.behaviour.golden is None:
        return "opaque, nothing to prove"
    files = {entry.name: shop.blobs.path(entry.sha256) for entry in manifest.artifacts}
    with shop.blobs.scratch() as scratch:
        difference = jobs.prove(scratch, content, files, shop.limits, job.heartbeat)
    return f"golden outputs differ by {difference:.2g} at most"
