"""Signing the approval of a rollout with the approver's own key, on the approver's own machine."""

from datetime import UTC, datetime, timedelta

from controller.cli.client import Client, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.render import notices
from controller.cli.rollout_tree import title


def signed_approval(client: Client, rollout_id: str, key: str, valid_days: float) -> str:
    """Return the approval's envelope, which names every released manifest of the rollout.

    CommandFailed: a key that cannot be used, or a rollout that brings nothing released.
    """
    # Imported here: signing libraries are slow to load, and few commands sign.
    from controller.cli.key_place import open_key, refusals
    from controller.trust.approvals import Approval, sign_approval

    if valid_days <= 0:
        raise CommandFailed(f"--valid-days is {valid_days:g}; expected more than 0", ExitCode.USAGE)
    path = path_of("rollouts", rollout_id)
    rollout, manifests = client.get(path), client.get(f"{path}/manifests")["items"]
    if not manifests:
        raise CommandFailed(f"rollout {rollout_id} brings no released manifest; there is nothing to sign")
    expires = datetime.now(UTC) + timedelta(days=valid_days)
    notices().print(f"approving {title(rollout)} until {expires:%Y-%m-%d}:", *manifests, sep="\n  ", soft_wrap=True)
    with refusals():
        return sign_approval(open_key(key), Approval(rollout["id"], tuple(manifests), expires))
