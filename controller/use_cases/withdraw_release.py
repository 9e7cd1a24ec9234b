"""Propose to take a version out of its model's role, or to sign the role again before its signatures expire.

Devices that run a withdrawn version keep it, and nobody on the channel `prod` is given it any more. A role that
expires takes nothing from a device that runs, and brings nothing to one that does not.
"""

from datetime import datetime

from controller.domain.errors import Conflict
from controller.domain.ids import ReleaseId
from controller.domain.releases import ReleaseKind
from controller.store import catalog
from controller.store.variants import lock_image_repository
from controller.use_cases.propose_release import Change, ReleaseOffice, open_proposal


def withdraw_release(
    office: ReleaseOffice, model: str, number: int, *, now: datetime, actor: str = "operator"
) -> ReleaseId:
    """Propose the role without any target of the version; NotFound when it is not released, Conflict as proposing."""
    with office.database.writing() as tx:
        lock_image_repository(tx, now)
        version = catalog.version_numbered(tx, model, number)
        document = office.image_repository.draft_release(model, (), number, floor=None, hardware=(), now=now)
        told = "devices that run it keep it, and nobody else gets it"
        change = Change(version.model_id, model, version, ReleaseKind.WITHDRAW, document, told)
        return open_proposal(office, tx, change, now=now, actor=actor)


def renew_release(office: ReleaseOffice, model: str, *, now: datetime, actor: str = "operator") -> ReleaseId:
    """Propose the same targets with a new date; Conflict when nothing was ever released, or as proposing."""
    with office.database.writing() as tx:
        lock_image_repository(tx, now)
        model_id = catalog.model_named(tx, model)
        if office.published(model) is None:
            raise Conflict(f"nothing of {model} was released yet; there is nothing to renew", code="release_no_change")
        document = office.image_repository.draft_release(model, (), None, floor=None, hardware=(), now=now)
        change = Change(model_id, model, None, ReleaseKind.RENEW, document, "the same targets for longer")
        return open_proposal(office, tx, change, now=now, actor=actor)
