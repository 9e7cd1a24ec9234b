"""Verify the audit log against itself and against the heads that the signer keeps; and have it keep them."""

from dataclasses import dataclass
from datetime import datetime

from controller.domain.audit_chain import GENESIS, Anchor, Break, Unbroken, check_chain
from controller.store.audit import audit_entries, audit_head_of
from controller.store.database import Database
from controller.trust.signer.interface import OnlineSigner


@dataclass(frozen=True)
class Verification:
    """What became of the check, and the anchors that it was made against."""

    found: Unbroken | Break
    anchors: tuple[Anchor, ...]


def verify_audit(database: Database, signer: OnlineSigner) -> Verification:
    """Recompute the whole chain and compare it with every anchor; SignerUnavailable when there is nobody to ask."""
    # Asked first: a head that is anchored meanwhile would be missing from entries that were read before it.
    anchors = tuple(Anchor(seq, sha256) for seq, sha256 in signer.audit_anchors())
    with database.reading() as tx:
        found = check_chain(audit_entries(tx), anchors)
        head = audit_head_of(tx)
    if isinstance(found, Unbroken) and found != head:
        found = Break(found.seq + 1, f"the log ends at entry {found.seq}, but its head says {head.seq}")
    return Verification(found, anchors)


def anchor_audit(database: Database, signer: OnlineSigner, *, now: datetime) -> None:
    """Have the signer write the head of the log into its journal; nothing while the log is empty."""
    del now  # the journal has its own clock
    with database.reading() as tx:
        head = audit_head_of(tx)
    if head.sha256 != GENESIS:
        signer.anchor_audit(head.seq, head.sha256)
