"""The rules of `PollCache`, each by the situation in which a cache without it would be wrong."""

from dataclasses import replace
from datetime import timedelta

from controller.api.device.poll_cache import PollCache
from controller.domain.assignments import manifests_of
from controller.domain.desired_state import Policy, desired_state
from controller.domain.fleet import Device, DeviceGroup, parse_selector
from controller.domain.ids import DeviceId, GroupId
from controller.domain.rollout import RolloutState
from controller.store.policy import PolicySnapshot
from controller.use_cases.follow_changes import Changes
from controller.use_cases.issue_assignments import CurrentAssignment
from tests.support.decisions import EVERYONE, NOW, V1, V2, a_device, a_pin, a_rollout, a_variant

PARIS = DeviceGroup(GroupId("gr_paris"), "paris", parse_selector("site=paris"))
GROUPS = {group.id: group for group in (EVERYONE, PARIS)}
VARIANTS = {V1: (a_variant(V1),), V2: (a_variant(V2),)}
PINNED = Policy(GROUPS, (a_pin(V1),), (), VARIANTS)
LYON = a_device("lyon")


def good_under(policy: Policy, device: Device = LYON, counter: int = 7) -> CurrentAssignment:
    """Return the assignment that was issued to the device under the policy."""
    manifests = manifests_of(desired_state(device, policy))
    return CurrentAssignment(device, counter, manifests, b"envelope", NOW + timedelta(hours=24), policy)


def a_cache(policy: Policy = PINNED, *, seq: int = 10) -> PollCache:
    cache = PollCache(PolicySnapshot(policy, seq))
    cache.store(seq, good_under(policy))
    return cache


def changed(position: int, *devices: DeviceId, policy: Policy | None = None, everything: bool = False) -> Changes:
    snapshot = PolicySnapshot(policy, position) if policy else None
    return Changes(position, frozenset(devices), everything, snapshot)


def test_a_stored_assignment_is_good_and_carries_its_counter() -> None:
    assert a_cache().good_etag(LYON.id, NOW) == b'"7"'


def test_nothing_is_said_about_a_device_that_was_never_read() -> None:
    assert a_cache().good_etag(DeviceId("dv_other"), NOW) is None


def test_a_change_of_the_device_drops_its_entry() -> None:
    cache = a_cache()
    cache.apply(changed(11, LYON.id))
    assert cache.good_etag(LYON.id, NOW) is None


def test_a_change_of_another_device_drops_nothing() -> None:
    cache = a_cache()
    cache.apply(changed(11, DeviceId("dv_other")))
    assert cache.good_etag(LYON.id, NOW) == b'"7"'


def test_a_policy_that_concerns_the_device_sends_it_to_the_database() -> None:
    cache = a_cache()
    cache.apply(changed(11, policy=replace(PINNED, pins=(a_pin(V2),))))
    assert cache.good_etag(LYON.id, NOW) is None


def test_a_policy_that_does_not_concern_the_device_leaves_its_assignment_good() -> None:
    cache = a_cache()
    cache.apply(changed(11, policy=replace(PINNED, pins=(a_pin(V1), a_pin(V2, PARIS)))))
    assert cache.good_etag(LYON.id, NOW) == b'"7"'


def test_a_policy_that_came_and_went_leaves_the_assignment_good() -> None:
    cache = a_cache()
    cache.apply(changed(11, policy=replace(PINNED, pins=(a_pin(V2),))))
    assert cache.good_etag(LYON.id, NOW) is None
    cache.apply(changed(12, policy=PINNED))
    assert cache.good_etag(LYON.id, NOW) == b'"7"'


def test_a_rollout_that_has_yet_to_count_the_device_sends_it_to_the_database_though_it_changes_no_manifest() -> None:
    cache = a_cache()
    to_what_it_runs = a_rollout(from_version=V2, to_version=V1, stage=1)
    cache.apply(changed(11, policy=replace(PINNED, rollouts=(to_what_it_runs,))))
    assert cache.good_etag(LYON.id, NOW) is None


def test_a_stage_that_was_passed_concerns_no_device_that_took_the_rollout_before() -> None:
    running = replace(PINNED, rollouts=(a_rollout(stage=1),))
    took = replace(LYON, took=frozenset({a_rollout().id}))
    cache = PollCache(PolicySnapshot(running, 10))
    cache.store(10, good_under(running, took))
    cache.apply(changed(11, policy=replace(running, rollouts=(a_rollout(stage=1, state=RolloutState.PAUSED),))))
    assert cache.good_etag(LYON.id, NOW) == b'"7"'


def test_what_was_read_before_a_change_that_was_already_heard_of_is_not_stored() -> None:
    cache = PollCache(PolicySnapshot(PINNED, 10))
    cache.apply(changed(11, LYON.id))
    cache.store(10, good_under(PINNED))
    assert cache.good_etag(LYON.id, NOW) is None


def test_what_was_read_under_another_policy_is_checked_under_the_present_one() -> None:
    cache = a_cache()
    later = replace(PINNED, pins=(a_pin(V2),))
    cache.store(12, good_under(later, counter=8))
    assert cache.good_etag(LYON.id, NOW) is None
    cache.apply(changed(12, policy=later))
    assert cache.good_etag(LYON.id, NOW) == b'"8"'


def test_an_assignment_that_is_due_to_be_signed_anew_is_not_good() -> None:
    cache = a_cache()
    assert cache.good_etag(LYON.id, NOW + timedelta(hours=24)) is None


def test_a_log_that_no_longer_reaches_back_empties_the_cache() -> None:
    cache = a_cache()
    cache.apply(changed(5000, policy=PINNED, everything=True))
    assert cache.good_etag(LYON.id, NOW) is None


def test_the_policy_is_known_to_hold_as_far_as_changes_were_followed() -> None:
    cache = a_cache()
    cache.apply(changed(44, DeviceId("dv_other")))
    assert cache.snapshot == PolicySnapshot(PINNED, 44)


def test_a_full_cache_forgets_the_entry_that_was_stored_first() -> None:
    cache = PollCache(PolicySnapshot(PINNED, 10), entries_max=2)
    for name in ("first", "second", "third"):
        cache.store(10, good_under(PINNED, a_device(name)))
    known = [cache.good_etag(DeviceId(f"dv_{name}"), NOW) for name in ("first", "second", "third")]
    assert known == [None, b'"7"', b'"7"']
