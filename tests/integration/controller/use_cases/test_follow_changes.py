from datetime import timedelta

import pytest

from controller.store.database import Database
from controller.use_cases.follow_changes import Changes, follow_changes, read_policy
from controller.use_cases.forget_changes import KEPT, forget_changes
from controller.use_cases.set_pin import set_pin
from tests.support.fleet import Fleet


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet.create(database)


def test_nothing_new_is_an_empty_answer_at_the_same_position(fleet: Fleet) -> None:
    position = read_policy(fleet.database).seq
    assert follow_changes(fleet.database, position) == Changes(position, frozenset(), everything=False, snapshot=None)


def test_a_device_that_changed_is_named_once_and_not_again(fleet: Fleet) -> None:
    position = read_policy(fleet.database).seq
    device_id = fleet.enrol("cam")
    found = follow_changes(fleet.database, position)
    assert (found.devices, found.snapshot) == ({device_id}, None)
    assert follow_changes(fleet.database, found.position).devices == frozenset()


def test_a_changed_policy_comes_with_the_answer(fleet: Fleet) -> None:
    fleet.publish(1)
    position = read_policy(fleet.database).seq
    pin_id = set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    found = follow_changes(fleet.database, position)
    assert found.snapshot is not None
    assert [pin.id for pin in found.snapshot.policy.pins] == [pin_id]
    assert found.snapshot.seq == found.position


def test_whoever_was_away_for_longer_than_the_log_is_kept_must_forget_everything(fleet: Fleet) -> None:
    position = read_policy(fleet.database).seq
    fleet.enrol("one")
    fleet.wait(KEPT.total_seconds() + 1)
    fleet.enrol("two")
    assert forget_changes(fleet.database, now=fleet.now) > 0
    found = follow_changes(fleet.database, position)
    assert found.everything
    assert found.snapshot is not None


def test_a_log_that_is_wholly_forgotten_is_noticed_too(fleet: Fleet) -> None:
    position = read_policy(fleet.database).seq
    fleet.enrol("one")
    forget_changes(fleet.database, now=fleet.now + KEPT + timedelta(seconds=1))
    found = follow_changes(fleet.database, position)
    assert found.everything
    assert not follow_changes(fleet.database, found.position).everything


def test_a_log_that_was_forgotten_up_to_the_position_is_no_gap(fleet: Fleet) -> None:
    fleet.enrol("one")
    position = read_policy(fleet.database).seq
    forget_changes(fleet.database, now=fleet.now + KEPT + timedelta(seconds=1))
    fleet.enrol("two")
    assert not follow_changes(fleet.database, position).everything
