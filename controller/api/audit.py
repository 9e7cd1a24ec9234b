"""Operator routes for the audit log: its entries, and whether they are as they were written."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from controller.api.dependencies import ServicesDep, requires
from controller.domain.audit_chain import Unbroken
from controller.domain.operators import Scope
from controller.store.audit import audit_head_of, audit_page
from controller.use_cases.verify_audit import verify_audit

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])
AUDIT_READS = Depends(requires(Scope.AUDIT_READ))
PAGE_MAX = 1000


@router.get("", dependencies=[AUDIT_READS])
def list_audit(
    services: ServicesDep,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    last: Annotated[int | None, Query(ge=1)] = None,
    page_size: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """List entries in order, those behind a number, or the `last` ones; `next_after` names the page behind, or null."""
    with services.database.reading() as tx:
        if last is not None:
            after = max(after, audit_head_of(tx).seq - last)
        items = audit_page(tx, after=after, limit=page_size)
    return {"items": items, "next_after": items[-1]["seq"] if len(items) == page_size else None}


@router.get("/verification", dependencies=[AUDIT_READS])
def get_verification(services: ServicesDep) -> dict[str, Any]:
    """Recompute the chain of the whole log, and compare it with the heads in the signer's journal."""
    verified = verify_audit(services.database, services.signer)
    unbroken = isinstance(verified.found, Unbroken)
    return {
        "state": "unbroken" if unbroken else "broken",
        "head" if unbroken else "break": asdict(verified.found),
        "anchors": [asdict(anchor) for anchor in verified.anchors],
    }
