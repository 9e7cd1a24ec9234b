"""Publish a variant: gather its lineage, build its manifest, prove both with the code that checks them, sign, tell.

The manifest names the lineage by content, so that whoever vouches for the one vouches for the other. Statements were
signed with the findings that they are about; here they are only read, so that a second attempt gives the same bytes.
"""

import hashlib
from datetime import datetime

from controller.artifacts import jobs
from controller.artifacts.blob_store import StoredBlob
from controller.artifacts.errors import ProofFailed
from controller.artifacts.findings import MAIN_FILE, Evaluation, ModelFacts
from controller.artifacts.manifests import onnx_manifest, opaque_manifest
from controller.artifacts.recipes import OPAQUE
from controller.domain.catalog import VariantEvent, VariantState
from controller.domain.errors import InvalidInput
from controller.domain.ids import VariantId
from controller.store.attestations import Attestation, AttestationKind, lineage_of
from controller.store.database import Transaction, record_change
from controller.store.variants import lock_image_repository
from controller.trust.lineage.verification import LineageBreak, lineage_bundle, verify_lineage
from controller.use_cases.attest_work import key_of, sign_model
from controller.use_cases.seal_artifacts import seal_artifacts, withhold_plaintexts
from controller.use_cases.variant_work import Attested, Finding, Job, Workshop, work_on
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.manifest import GOLDEN_FILE, LineageEntry, Manifest, parse_manifest, target_path


def publish_variant(shop: Workshop, variant_id: VariantId) -> VariantState | None:
    """Move a measured variant to published; returns as `work_on` does.

    A worker that dies between signing and writing is harmless: the same facts give the same manifest, and signing
    a manifest twice changes nothing.
    """
    return work_on(shop, variant_id, VariantState.MEASURED, _publish)


def _publish(shop: Workshop, job: Job) -> Finding:
    stated = _lineage(shop, job)
    bundle = _stored_bundle(shop, stated)
    manifest = _manifest(shop, job, LineageEntry(bundle.size_bytes, bundle.sha256) if bundle else None)
    manifest, sealed = _travelling(shop, job, manifest)
    content = manifest.to_bytes()
    try:
        _verify(stated, parse_manifest(content))
        proof = _prove(shop, job, manifest, content)
    except (ProtocolError, ProofFailed) as error:
        raise InvalidInput(f"the manifest cannot be published: {error}", code="manifest_refused") from error

    _open_or_withhold(shop, manifest, stated, bundle)

    def publish(tx: Transaction, now: datetime) -> None:
        lock_image_repository(tx, now)
        shop.image_repository.publish([content], now)
        record_change(tx, now)

    files = {entry.name: entry.sha256 for entry in manifest.artifacts}
    model_signature = sign_model(shop, job, manifest.main, files)
    digest = hashlib.sha256(content).hexdigest()
    return Finding(
        VariantEvent.SIGNED,
        f"manifest {digest[:12]} is signed and published; {proof}; {len(stated)} statements of its lineage",
        {
            "target": target_path(manifest.model, manifest.version, manifest.variant),
            "manifest_sha256": digest,
            "manifest_bytes": len(content),
            "lineage_sha256": bundle and bundle.sha256,
            "content_key": manifest.content_key,
            "wire_bytes": manifest.wire_bytes,
        },
        (*sealed, bundle) if bundle else sealed,
        attested=Attested(frozenset({AttestationKind.MODEL_SIGNING}), (model_signature,)),
        publish=publish,
    )


def _travelling(shop: Workshop, job: Job, manifest: Manifest) -> tuple[Manifest, tuple[StoredBlob, ...]]:
    if not job.version.sealed:
        return manifest, ()
    try:
        return seal_artifacts(shop, job, manifest)
    except ProtocolError as error:
        raise InvalidInput(f"the manifest cannot be published: {error}", code="manifest_refused") from error


def _open_or_withhold(shop: Workshop, manifest: Manifest, stated: list[Attestation], bundle: StoredBlob | None) -> None:
    """See to it that devices can have what travels, and of a sealed model nothing else can be had."""
    if manifest.content_key:
        lineage = [bundle.sha256] if bundle else []
        withhold_plaintexts(shop.database, shop.blobs, manifest, [one.envelope for one in stated], *lineage)
    for entry in manifest.artifacts:
        for sha256 in {entry.travels.sha256} if entry.sealed else {entry.sha256, entry.travels.sha256}:
            if shop.blobs.is_withheld(sha256):
                shop.blobs.disclose(sha256)


def _lineage(shop: Workshop, job: Job) -> list[Attestation]:
    """Return what was stated of the variant; nothing where its version was uploaded before anything was."""
    with shop.database.reading() as tx:
        stated = lineage_of(tx, job.version.id, job.claim.id)
    return stated if any(one.kind is AttestationKind.UPLOAD for one in stated) else []


def _stored_bundle(shop: Workshop, stated: list[Attestation]) -> StoredBlob | None:
    if not stated:
        return None
    writer = shop.blobs.open_writer()
    writer.feed(lineage_bundle(one.envelope for one in stated))
    return writer.commit()


def _verify(stated: list[Attestation], manifest: Manifest) -> None:
    """Refuse to sign what nobody would believe."""
    if manifest.lineage:
        found = verify_lineage([one.envelope for one in stated], manifest, [key_of(one) for one in stated])
        if isinstance(found, LineageBreak):
            raise InvalidInput(f"the lineage is broken: {found.detail}", code=found.code)


def _manifest(shop: Workshop, job: Job, lineage: LineageEntry | None) -> Manifest:
    claim, version = job.claim, job.version
    if claim.recipe == OPAQUE:
        return opaque_manifest(
            shop.blobs,
            model=version.model,
            version=version.number,
            source_sha256=version.artifact_sha256,
            lineage=lineage,
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
        lineage=lineage,
    )


def _prove(shop: Workshop, job: Job, manifest: Manifest, content: bytes) -> str:
    if manifest.behaviour.golden is None:
        return "opaque, nothing to prove"
    files = {entry.name: shop.blobs.path(entry.sha256) for entry in manifest.artifacts}
    with shop.blobs.scratch() as scratch:
        difference = jobs.prove(scratch, content, files, shop.limits, job.heartbeat)
    return f"golden outputs differ by {difference:.2g} at most"
