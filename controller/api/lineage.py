"""Operator routes for lineage: signed statements of how a version was made, and the OpenSSF Model Signing bundle."""

from typing import Any

from fastapi import APIRouter

from controller.api.dependencies import READS, ServicesDep
from controller.trust.lineage.verification import LineageBreak, LineageReport
from controller.use_cases.verify_version import VariantLineage, model_signature, verify_version

router = APIRouter(prefix="/api/v1/models/{name}/versions/{number}", tags=["lineage"], dependencies=[READS])


@router.get("/lineage")
def get_lineage(name: str, number: int, services: ServicesDep) -> dict[str, Any]:
    """Show each variant's statements as they were signed, the keys, and what this controller finds in them.

    Whoever does not want to believe this controller verifies the envelopes: `edgefleet version verify`.
    """
    found = verify_version(services.database, services.settings.tuf_dir, name, number)
    return {"model": name, "version": number, "variants": [_variant(one) for one in found]}


@router.get("/variants/{variant}/model-signing")
def get_model_signing(name: str, number: int, variant: str, services: ServicesDep) -> dict[str, Any]:
    """Show a published variant's bundle for `model_signing verify key`, the public key, and the files that it is of."""
    found = model_signature(services.database, services.settings.tuf_dir, name, number, variant)
    return {
        "model": name,
        "version": number,
        "variant": variant,
        "bundle": found.bundle,
        "public_key": found.public_key_pem,
        "files": [
            {"name": entry.name, "length": entry.length, "sha256": entry.sha256} for entry in found.manifest.artifacts
        ],
    }


def _variant(one: VariantLineage) -> dict[str, Any]:
    variant, found = one.variant, one.found
    return {
        "variant": variant.name,
        "state": variant.state,
        "target": variant.target,
        "released": variant.released,
        "manifest_sha256": variant.manifest_sha256,
        "envelopes": [envelope.decode() for envelope in one.envelopes],
        "keys": [{"keyid": key.keyid, **key.to_dict()} for key in one.keys],
        "report": found.to_json() if isinstance(found, LineageReport) else None,
        "break": found.to_json() if isinstance(found, LineageBreak) else None,
    }
