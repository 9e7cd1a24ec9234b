"""Pin a version of a model on a group, or take the pin away: the stable desired state.

Where released versions need two persons (`two_persons`), they take the way of a rollout, which somebody else approves;
a pin then is for devices on the channel `dev`, and never takes the place of one that two persons decided.
"""

from datetime import datetime

from controller.domain.catalog import ModelVersion
from controller.domain.desired_state import PIN_SOAK_S
from controller.domain.errors import Conflict
from controller.domain.fleet import DeviceGroup
from controller.domain.ids import PREFIXES, PinId
from controller.domain.operators import two_persons_needed
from controller.domain.rollout import OPEN_STATES
from controller.store import catalog, groups, rollouts
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event, record_change
from controller.store.variants import published_variants
from controller.use_cases.identity import new_id
from controller.use_cases.two_persons import needs_another, refuse_to_replace_approved_pin


def set_pin(
    database: Database,
    model: str,
    number: int,
    group_name: str,
    *,
    now: datetime,
    soak_s: float = PIN_SOAK_S,
    two_persons: bool = False,
    actor: str = "operator",
) -> PinId:
    """Set the pin; Conflict while the version has no published variant or a rollout moves this very pin.

    Forbidden(E_TWO_PERSON): the version is released, or the pin was decided by two persons, and `two_persons` is set.
    """
    with database.writing() as tx:
        version = catalog.version_numbered(tx, model, number)
        group = groups.group_named(tx, group_name)
        published = published_variants(tx, [version.id]).get(version.id, ())
        if not published:
            raise Conflict(
                f"{model} version {number} has no published variant; wait until one is ready, or see why it failed",
                code="version_not_ready",
            )
        released = any(variant.released for variant in published)
        if two_persons_needed(released=released, single_operator=not two_persons):
            raise needs_another(f"{model} version {number} is released", version, group)
        if two_persons:
            refuse_to_replace_approved_pin(tx, version, group)
        _refuse_open_rollout(tx, version, group)
        wanted, where = PinId(new_id(PREFIXES[PinId])), (version.model_id, group.id, version.id)
        pin_id = rollouts.put_pin(tx, wanted, *where, soak_s=soak_s, dev_only=two_persons, now=now)
        add_event(tx, now, actor, "pin.set", pin_id, f"group {group.name} runs {model} version {number}")
        record_audit(tx, now, actor, "pin.set", pin_id, {"model": model, "version": number, "group": group.name})
        record_change(tx, now)
    return pin_id


def delete_pin(database: Database, pin_id: str, *, now: datetime, actor: str = "operator") -> None:
    """Remove the pin. Devices keep what they run until something else is decided for them."""
    with database.writing() as tx:
        rollouts.delete_pin(tx, pin_id)
        add_event(tx, now, actor, "pin.deleted", pin_id, "pin deleted; devices keep what they run")
        record_audit(tx, now, actor, "pin.deleted", pin_id)
        record_change(tx, now)


def _refuse_open_rollout(tx: Transaction, version: ModelVersion, group: DeviceGroup) -> None:
    for rollout in rollouts.rollouts_in(tx, OPEN_STATES):
        if (rollout.model_id, rollout.group_id) == (version.model_id, group.id):
            raise Conflict(
                f"rollout {rollout.id} is moving {version.model} on group {group.name}; abort it or wait for its end",
                code="rollout_open",
            )
