"""Verify the lineage of a version: for each variant, what was stated, under which keys, and whether it holds together.

The same check runs on the operator's own machine (`edgefleet version verify`), which need not believe this one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key

from controller.domain.errors import NotFound
from controller.store import catalog
from controller.store.attestations import (
    Attestation,
    AttestedVariant,
    attested_variants,
    lineage_of,
    model_signature_of,
)
from controller.store.database import Database
from controller.store.variants import variant_of
from controller.trust.lineage.model_signing import model_bundle, public_key_pem
from controller.trust.lineage.verification import LineageBreak, LineageReport, verify_lineage
from controller.use_cases.attest_work import key_of
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.manifest import Manifest, parse_manifest


@dataclass(frozen=True)
class VariantLineage:
    """What is known of how a variant was made."""

    variant: AttestedVariant
    envelopes: tuple[bytes, ...]
    keys: tuple[Key, ...]
    """Those that the envelopes were signed with, as this controller remembers them."""
    found: LineageReport | LineageBreak | None
    """None while the variant is not published, for then nothing says yet what it should be."""


@dataclass(frozen=True)
class ModelSignature:
    """A variant's OpenSSF Model Signing bundle and what it takes to check it."""

    bundle: dict[str, Any]
    public_key_pem: str
    manifest: Manifest


def verify_version(database: Database, tuf_dir: Path, model: str, number: int) -> list[VariantLineage]:
    """Return the lineage of each of the version's variants; NotFound names what is missing."""
    with database.reading() as tx:
        version = catalog.version_numbered(tx, model, number)
        stated = [(one, lineage_of(tx, version.id, one.id)) for one in attested_variants(tx, version.id)]
    return [_verified(tuf_dir, variant, attestations) for variant, attestations in stated]


def model_signature(database: Database, tuf_dir: Path, model: str, number: int, variant: str) -> ModelSignature:
    """Return the bundle of a published variant; NotFound names what is missing."""
    with database.reading() as tx:
        version = catalog.version_numbered(tx, model, number)
        signed = model_signature_of(tx, variant_of(tx, version.id, variant))
        found = next(one for one in attested_variants(tx, version.id) if one.name == variant)
    manifest = _manifest(tuf_dir, found)
    if signed is None or not isinstance(manifest, Manifest):
        why = manifest.detail if isinstance(manifest, LineageBreak) else f"it is {found.state}"
        raise NotFound(f"variant {variant} has no model signature: {why}", code="model_signature_unknown")
    key = key_of(signed)
    return ModelSignature(model_bundle(signed.envelope, key), public_key_pem(key).decode(), manifest)


def _verified(tuf_dir: Path, variant: AttestedVariant, attestations: list[Attestation]) -> VariantLineage:
    envelopes = tuple(one.envelope for one in attestations)
    keys = {one.keyid: key_of(one) for one in attestations}
    manifest = _manifest(tuf_dir, variant)
    found = verify_lineage(envelopes, manifest, [*keys.values()]) if isinstance(manifest, Manifest) else manifest
    return VariantLineage(variant, envelopes, (*keys.values(),), found)


def _manifest(tuf_dir: Path, variant: AttestedVariant) -> Manifest | LineageBreak | None:
    """Return the published manifest, None before there is one; what lies there in its place is told."""
    if variant.target is None or variant.manifest_sha256 is None:
        return None
    path = tuf_dir / "targets" / Path(variant.target).parent / f"{variant.manifest_sha256}.manifest.json"
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == variant.manifest_sha256:
            return parse_manifest(content)
    except (OSError, ProtocolError) as error:
        return LineageBreak("E_HASH_MISMATCH[manifest]", f"the published manifest cannot be read: {error}")
    return LineageBreak("E_HASH_MISMATCH[manifest]", f"{path.name} holds other bytes than its name says")
