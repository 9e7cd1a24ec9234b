"""Keep a finished ceremony in the history and in the audit log, and sign anew what it outdates."""

from collections.abc import Mapping
from datetime import datetime

from controller.store.assignments import outdate_assignments
from controller.store.audit import record_audit
from controller.store.database import Database, add_event


def record_ceremony(
    database: Database,
    summary: str,
    documents: Mapping[str, tuple[int, str, tuple[str, ...]]],
    *,
    now: datetime,
    has_new_director: bool = False,
    actor: str = "operator",
) -> None:
    """Record what was installed: version, sha256 and signers (key ids) of each document.

    With another key of the director, devices refuse what the old one signed: every assignment is signed anew.
    """
    detail = {
        name: {"version": version, "sha256": sha256, "signed_by": list(signed_by)}
        for name, (version, sha256, signed_by) in documents.items()
    }
    told = ", ".join(f"{name} {version}" for name, (version, _, _) in documents.items())
    with database.writing() as tx:
        add_event(tx, now, actor, "trust.changed", "trust", f"{summary}: {told or 'signed anew'}")
        record_audit(tx, now, actor, "trust.changed", "trust", {"summary": summary, **detail})
        if has_new_director:
            outdate_assignments(tx)
