"""Create a device group from a selector, or from a list of devices."""

from collections.abc import Sequence
from datetime import datetime

from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.fleet import parse_selector
from controller.domain.ids import PREFIXES, DeviceId, GroupId
from controller.store import groups
from controller.store.audit import record_audit
from controller.store.database import Database, add_event, record_change
from controller.use_cases.create_model import check_name
from controller.use_cases.identity import new_id


def create_group(
    database: Database,
    name: str,
    selector: str | None,
    members: Sequence[str] | None,
    *,
    now: datetime,
    actor: str = "operator",
) -> GroupId:
    """Write the group. Exactly one of `selector` and `members` (device names) must be given."""
    check_name(name)
    if (selector is None) == (members is None):
        raise InvalidInput("give either a selector or a list of members", field="/selector")
    if selector is not None:
        parse_selector(selector)
    with database.writing() as tx:
        try:
            groups.group_named(tx, name)
        except NotFound:
            pass
        else:
            raise Conflict(f"there is a group {name!r} already", code="group_name_taken")
        ids = None
        if members is not None:
            known = groups.device_ids_named(tx, list(members))
            missing = sorted(set(members) - set(known))
            if missing:
                raise InvalidInput(f"no such devices: {', '.join(missing)}", code="device_unknown", field="/members")
            ids = frozenset[DeviceId](known.values())
        group_id = GroupId(new_id(PREFIXES[GroupId]))
        row = {"id": group_id, "name": name, "selector": selector, "created_at": now}
        groups.insert_group(tx, row, ids)
        described = f"selector {selector!r}" if members is None else f"{len(members)} devices"
        add_event(tx, now, actor, "group.created", group_id, f"group {name}: {described}")
        record_audit(tx, now, actor, "group.created", group_id, {"group": name, "selector": selector})
        record_change(tx, now)
    return group_id
