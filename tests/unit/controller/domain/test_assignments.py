from dataclasses import replace
from datetime import timedelta

from controller.domain.assignments import is_good, manifests_of, next_counter
from controller.domain.desired_state import DesiredState, SlotChoice
from controller.domain.ids import RolloutId
from tests.support.decisions import NOW, V1, V2, a_device, a_variant

ROLLOUT = RolloutId("ro_1")
BY_PIN = DesiredState({"digits": SlotChoice(a_variant(V1), "pin pi_1", 60.0)}, {})
BY_ROLLOUT = DesiredState({"digits": SlotChoice(a_variant(V1), "rollout ro_1, stage 1 of 2", 60.0, ROLLOUT)}, {})
MANIFESTS = {"digits": a_variant(V1).manifest_sha256}
COUNTED = replace(a_device(), took=frozenset({ROLLOUT}))


def test_an_assignment_that_names_the_desired_manifests_is_good() -> None:
    assert is_good(MANIFESTS, a_device(), BY_PIN)


def test_another_reason_or_soak_time_alone_makes_no_new_assignment() -> None:
    other_words = replace(BY_PIN.slots["digits"], reason="pin pi_2", soak_s=1.0)
    assert is_good(MANIFESTS, a_device(), DesiredState({"digits": other_words}, {}))


def test_an_assignment_that_names_another_manifest_is_not_good() -> None:
    assert not is_good({"digits": a_variant(V2).manifest_sha256}, a_device(), BY_PIN)


def test_an_assignment_that_names_a_slot_nobody_speaks_of_any_more_is_not_good() -> None:
    assert not is_good({**MANIFESTS, "faces": "x"}, a_device(), BY_PIN)


def test_a_slot_that_shall_be_empty_differs_from_one_that_is_not_named() -> None:
    emptied = DesiredState({"digits": SlotChoice(None, "aborted first rollout", 0.0)}, {})
    assert manifests_of(emptied) == {"digits": None}
    assert not is_good({}, a_device(), emptied)


def test_an_assignment_is_not_good_while_a_rollout_does_not_count_the_device() -> None:
    assert not is_good(MANIFESTS, a_device(), BY_ROLLOUT)
    assert is_good(MANIFESTS, COUNTED, BY_ROLLOUT)


def test_counters_follow_the_clock() -> None:
    assert next_counter(0, NOW) == int(NOW.timestamp())


def test_counters_rise_when_the_clock_does_not() -> None:
    ahead = next_counter(0, NOW + timedelta(days=1))
    assert next_counter(ahead, NOW) == ahead + 1
