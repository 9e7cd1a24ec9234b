"""Pin a version of a model on a group, or take the pin away: the stable desired state."""

from datetime import datetime

from controller.domain.desired_state import PIN_SOAK_S
from controller.domain.errors import Conflict
from controller.domain.ids import PREFIXES, PinId
from controller.domain.rollout import OPEN_STATES
from controller.store import catalog, groups, rollouts
from controller.store.database import Database, add_event, record_change
from controller.use_cases.identity import new_id


def set_pin(
    database: Database, model: str, number: int, group_name: str, *, now: datetime, soak_s: float = PIN_SOAK_S
) -> PinId:
    """Set the pin; Conflict while the version has no published variant or a rollout moves this very pin."""
    with database.writing() as tx:
        version = catalog.version_numbered(tx, model, number)
        group = groups.group_named(tx, group_name)
        if not catalog.published_count(tx, version.id):
            raise Conflict(
                f"{model} version {number} has no published variant; wait until one is ready, or see why it failed",
                code="version_not_ready",
            )
        for rollout in rollouts.rollouts_in(tx, OPEN_STATES):
            if (rollout.model_id, rollout.group_id) == (version.model_id, group.id):
                raise Conflict(
                    f"rollout {rollout.id} is moving {model} on group {group.name}; abort it or wait for its end",
                    code="rollout_open",
                )
        wanted = PinId(new_id(PREFIXES[PinId]))
        pin_id = rollouts.put_pin(tx, wanted, version.model_id, group.id, version.id, soak_s=soak_s, now=now)
        add_event(tx, now, "operator", "pin.set", pin_id, f"group {group.name} runs {model} version {number}")
        record_change(tx, now)
    return pin_id


def delete_pin(database: Database, pin_id: str, *, now: datetime) -> None:
    """Remove the pin. Devices keep what they run until something else is decided for them."""
    with database.writing() as tx:
        rollouts.delete_pin(tx, pin_id)
        add_event(tx, now, "operator", "pin.deleted", pin_id, "pin deleted; devices keep what they run")
        record_change(tx, now)
