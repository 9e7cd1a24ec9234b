"""Create a model: a named capability that versions are released under."""

from datetime import datetime

from controller.domain.errors import Conflict, InvalidInput
from controller.domain.ids import PREFIXES, ModelId
from controller.store import catalog
from controller.store.audit import record_audit
from controller.store.database import Database, add_event
from controller.use_cases.identity import new_id
from device_agent.protocol.manifest import NAME


def create_model(
    database: Database, name: str, notes: str, *, now: datetime, actor: str = "operator", sealed: bool = False
) -> ModelId:
    """Write the model; InvalidInput for a name that is not safe in a path, Conflict for one that is taken.

    What is published of a `sealed` model travels encrypted; that is decided once, before there is anything.
    """
    check_name(name)
    with database.writing() as tx:
        if catalog.has_model(tx, name):
            raise Conflict(f"there is a model {name!r} already; upload a version to it", code="model_name_taken")
        model_id = ModelId(new_id(PREFIXES[ModelId]))
        catalog.insert_model(tx, {"id": model_id, "name": name, "notes": notes, "created_at": now, "sealed": sealed})
        add_event(tx, now, actor, "model.created", model_id, f"model {name}{', sealed' if sealed else ''}")
        record_audit(tx, now, actor, "model.created", model_id, {"model": name} | ({"sealed": True} if sealed else {}))
    return model_id


def check_name(name: str) -> None:
    """Refuse a name that could not stand in a path, a URL or a TUF role pattern."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"the name {name!r} must be 1 to 64 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends",
            code="bad_name",
            field="/name",
        )
