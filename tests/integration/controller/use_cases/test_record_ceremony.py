import pytest

from controller.domain.audit_chain import Unbroken, check_chain
from controller.store.audit import audit_entries
from controller.store.database import Database
from controller.store.views.overview import events
from controller.use_cases.follow_changes import follow_changes, read_policy
from controller.use_cases.record_ceremony import record_ceremony
from tests.support.fleet import Fleet

DOCUMENTS = {"director-root": (2, "ab" * 32, ("c0ffee", "facade"))}


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet.create(database)


def test_a_ceremony_is_in_the_history_and_in_the_audit_log_with_who_signed(fleet: Fleet) -> None:
    record_ceremony(fleet.database, "new director", DOCUMENTS, now=fleet.now, actor="carol@host")

    with fleet.database.reading() as tx:
        entries = list(audit_entries(tx))
        (event,) = events(tx, "trust", 10)
    assert isinstance(check_chain(entries), Unbroken)
    entry, _ = entries[-1]
    assert (entry.actor, entry.action) == ("carol@host", "trust.changed")
    assert entry.detail == {
        "summary": "new director",
        "director-root": {"version": 2, "sha256": "ab" * 32, "signed_by": ["c0ffee", "facade"]},
    }
    assert event["message"] == "new director: director-root 2"


def test_assignments_stay_when_the_director_keeps_its_key(fleet: Fleet) -> None:
    device_id = fleet.enrol("cam")
    before = fleet.poll(device_id)

    record_ceremony(fleet.database, "renewal", DOCUMENTS, now=fleet.now)

    assert fleet.poll(device_id) == before


def test_a_new_director_signs_every_assignment_anew_and_every_process_hears_of_it(fleet: Fleet) -> None:
    devices = [fleet.enrol(name) for name in ("one", "two")]
    before = {device: fleet.poll(device).counter for device in devices}
    position = read_policy(fleet.database).seq

    record_ceremony(fleet.database, "new director", DOCUMENTS, now=fleet.now, has_new_director=True)

    assert follow_changes(fleet.database, position).everything
    for device in devices:
        assert fleet.poll(device).counter > before[device]
    position = follow_changes(fleet.database, position).position
    again = {device: fleet.poll(device).counter for device in devices}
    assert {device: fleet.poll(device).counter for device in devices} == again
    assert not follow_changes(fleet.database, position).everything
