"""Where the reports of each device stand, and which batches were taken: what replays and clones are recognised by."""

from collections.abc import Iterable, Mapping

from sqlalchemy import delete, select, tuple_

from controller.domain.ids import DeviceId
from controller.domain.report_sequence import ReportPosition
from controller.store import tables
from controller.store.database import Transaction, upsert
from controller.store.reports import BatchKey
from controller.store.trust_tables import report_position

_batch = tables.report_batch


def load_positions(tx: Transaction, ids: Iterable[DeviceId]) -> dict[DeviceId, ReportPosition]:
    """Return the positions of the devices that have one."""
    rows = tx.execute(select(report_position).where(report_position.c.device_id.in_(list(ids))))
    return {
        DeviceId(row.device_id): ReportPosition(row.spool, row.seq, row.batch, tuple(row.former_spools)) for row in rows
    }


def save_positions(tx: Transaction, positions: Mapping[DeviceId, ReportPosition]) -> None:
    """Write the positions."""
    if not positions:
        return
    rows = [
        {"device_id": device_id, **vars(position), "former_spools": list(position.former_spools)}
        for device_id, position in sorted(positions.items())
    ]
    statement = upsert(tx, report_position)
    changed = {name: statement.excluded[name] for name in ("spool", "seq", "batch", "former_spools")}
    tx.execute(statement.on_conflict_do_update(index_elements=["device_id"], set_=changed), rows)


def forget_position(tx: Transaction, device_id: DeviceId) -> None:
    """Let the device begin anywhere again."""
    tx.execute(delete(report_position).where(report_position.c.device_id == device_id))


def known_batches(tx: Transaction, keys: Iterable[BatchKey]) -> set[BatchKey]:
    """Return those of the batches that were taken before."""
    wanted = list(keys)
    if not wanted:
        return set()
    query = select(_batch.c.device_id, _batch.c.batch).where(tuple_(_batch.c.device_id, _batch.c.batch).in_(wanted))
    return {(DeviceId(row.device_id), row.batch) for row in tx.execute(query)}
