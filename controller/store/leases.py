"""Leases of whole roles: which process may act in a role until when. Works alike on every database."""

from datetime import datetime

from sqlalchemy import Connection, delete, or_

from controller.store import tables
from controller.store.database import upsert

_lease = tables.lease


def take_lease(tx: Connection, name: str, owner: str, *, until: datetime, now: datetime) -> bool:
    """Take or renew the lease; False while another owner holds it. It falls free by itself when `until` passes."""
    row = {"name": name, "owner": owner, "until": until}
    taken = (
        upsert(tx, _lease)
        .values(row)
        .on_conflict_do_update(
            index_elements=["name"],
            set_={"owner": owner, "until": until},
            where=or_(_lease.c.owner == owner, _lease.c.until < now),
        )
        .returning(_lease.c.name)
    )
    return tx.execute(taken).first() is not None


def release_lease(tx: Connection, name: str, owner: str) -> None:
    """Give the lease back, so that nobody has to wait for its end; somebody else's lease is left alone."""
    tx.execute(delete(_lease).where(_lease.c.name == name, _lease.c.owner == owner))
