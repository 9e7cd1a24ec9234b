"""What one person alone must not do where released versions need two."""

from controller.domain.catalog import ModelVersion
from controller.domain.errors import Forbidden
from controller.domain.fleet import DeviceGroup
from controller.domain.rollout import Rollout
from controller.store import rollouts
from controller.store.database import Transaction

CODE = "E_TWO_PERSON"


def needs_another(why: str, version: ModelVersion, group: DeviceGroup) -> Forbidden:
    """Return the refusal of what one person may not decide, with the way that is open."""
    propose = f"edgefleet rollout create {version.model} {version.number} --group {group.name}"
    return Forbidden(
        f"{why}, and two persons decide about what devices on the channel prod run; propose a rollout of a released "
        f"version, which somebody else approves (`{propose}`), or take a group of devices on the channel dev",
        code=CODE,
    )


def refuse_to_replace_approved_pin(tx: Transaction, version: ModelVersion, group: DeviceGroup) -> None:
    """Raise Forbidden when one person alone would move a pin that devices on the channel `prod` follow."""
    for pin in rollouts.all_pins(tx):
        if (pin.model, pin.group_id) == (version.model, group.id) and not pin.dev_only:
            raise needs_another(f"the pin of {version.model} on group {group.name} holds for them too", version, group)


def refuse_same_person(rollout: Rollout, actor: str, token_id: str) -> None:
    """Raise Forbidden when the approver is the proposer, be it under another name or with another token."""
    if actor == rollout.proposed_by or (token_id and token_id == rollout.proposed_with):
        raise Forbidden(
            f"rollout {rollout.id} was proposed by {rollout.proposed_by}, and another person must approve it, with a "
            "token of their own",
            code=CODE,
        )
