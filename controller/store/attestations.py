"""Queries about attestations: signed statements of how artifacts came to be, kept beside what they speak of."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, delete, or_, select

from controller.domain.catalog import VariantState
from controller.domain.ids import VariantId, VersionId
from controller.store import tables
from controller.store.database import Transaction, upsert
from controller.store.trust_tables import attestation as _attestation

_variant = tables.variant


class AttestationKind(StrEnum):
    """What an attestation says."""

    UPLOAD = "import"
    STEP = "step"
    GOLDEN = "golden"
    EVALUATION = "evaluation"
    MODEL_SIGNING = "model_signing"
    """Which files the published variant consists of; no part of its lineage."""


LINEAGE = frozenset(AttestationKind) - {AttestationKind.MODEL_SIGNING}
"""What a manifest names."""


@dataclass(frozen=True)
class Attestation:
    """A signed statement."""

    kind: AttestationKind
    subject_sha256: str
    """Of the main file that it speaks of."""
    envelope: bytes
    """DSSE, compact JSON."""
    keyid: str
    public_key: dict[str, Any]
    """The key that signed it, as TUF writes keys: the signer forgets keys that were rotated out."""


@dataclass(frozen=True)
class AttestedVariant:
    """A variant, and where its manifest is once it is published."""

    id: VariantId
    name: str
    state: VariantState
    target: str | None
    manifest_sha256: str | None
    released: bool


def put_attestations(
    tx: Transaction,
    version_id: VersionId,
    variant_id: VariantId | None,
    attestations: Sequence[Attestation],
    now: datetime,
) -> None:
    """Write statements about a version, or about one of its variants; writing them again changes nothing."""
    rows = [
        {
            **vars(one),
            "sha256": hashlib.sha256(one.envelope).hexdigest(),
            "version_id": version_id,
            "variant_id": variant_id,
            "created_at": now,
        }
        for one in attestations
    ]
    if rows:
        tx.execute(upsert(tx, _attestation).on_conflict_do_nothing(index_elements=["sha256"]), rows)


def forget_attestations(tx: Transaction, variant_id: VariantId, kinds: Iterable[AttestationKind]) -> None:
    """Drop the statements of these kinds about a variant, because what they speak of was made anew."""
    concerned = and_(_attestation.c.variant_id == variant_id, _attestation.c.kind.in_(list(kinds)))
    tx.execute(delete(_attestation).where(concerned))


def lineage_of(tx: Transaction, version_id: VersionId, variant_id: VariantId) -> list[Attestation]:
    """Return the statements that lead from the upload to the variant, in no particular order."""
    about = or_(_attestation.c.variant_id == variant_id, _attestation.c.variant_id.is_(None))
    return _found(tx, and_(_attestation.c.version_id == version_id, about, _attestation.c.kind.in_(list(LINEAGE))))


def model_signature_of(tx: Transaction, variant_id: VariantId) -> Attestation | None:
    """Return the statement of the files that a published variant consists of."""
    of_kind = _attestation.c.kind == AttestationKind.MODEL_SIGNING
    found = _found(tx, and_(_attestation.c.variant_id == variant_id, of_kind))
    return found[0] if found else None


def attested_variants(tx: Transaction, version_id: VersionId) -> list[AttestedVariant]:
    """Return the variants of a version that statements may be about, by name; what a search set aside is left out."""
    shown = ("id", "recipe", "state", "target", "manifest_sha256", "released_at")
    query = select(*(_variant.c[name] for name in shown)).where(
        _variant.c.version_id == version_id, _variant.c.state != VariantState.ASIDE
    )
    return [
        AttestedVariant(
            id=VariantId(row.id),
            name=row.recipe,
            state=VariantState(row.state),
            target=row.target,
            manifest_sha256=row.manifest_sha256,
            released=row.released_at is not None,
        )
        for row in tx.execute(query.order_by(_variant.c.recipe))
    ]


def _found(tx: Transaction, condition: Any) -> list[Attestation]:
    query = select(_attestation).where(condition).order_by(_attestation.c.created_at, _attestation.c.sha256)
    return [
        Attestation(AttestationKind(row.kind), row.subject_sha256, row.envelope, row.keyid, row.public_key)
        for row in tx.execute(query)
    ]
