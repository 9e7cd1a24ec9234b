from datetime import timedelta

import pytest

from controller.domain.catalog import PublishedVariant
from controller.domain.desired_state import PIN_SOAK_S, DesiredState, Policy, SlotChoice, desired_state
from controller.domain.fleet import Device, DeviceGroup, parse_selector
from controller.domain.ids import GroupId, RolloutId, VersionId
from controller.domain.rollout import Rollout, RolloutState
from controller.domain.stages import POSITION_END, Stage, position
from controller.domain.variant_rules import RuleKind, VariantRule
from tests.support.decisions import (
    EVERYONE,
    NOW,
    V1,
    V2,
    V3,
    a_cost,
    a_device,
    a_pin,
    a_policy,
    a_profile,
    a_rollout,
    a_rule,
    a_variant,
    device_placed,
)

LYON = DeviceGroup(GroupId("gr_lyon"), "lyon", parse_selector("site=lyon"))
TURIN = DeviceGroup(GroupId("gr_turin"), "turin", parse_selector("site=turin"))
CANARY = device_placed(a_rollout(), admitted=True)
OTHER = device_placed(a_rollout(), admitted=False)


def having_taken(rollout: Rollout, device: Device = CANARY, **changes: frozenset[str]) -> Device:
    return a_device(device.name, took=frozenset({rollout.id}), **changes)


def chosen(device: Device, policy: Policy) -> PublishedVariant | None:
    """Return the variant for the slot `digits`; the slot must be spoken of."""
    return desired_state(device, policy).slots["digits"].variant


def explained(device: Device, policy: Policy) -> str:
    return "; ".join(desired_state(device, policy).explanation["digits"])


# --- pins


def test_without_pins_and_rollouts_nothing_is_said() -> None:
    assert desired_state(a_device(), a_policy()) == DesiredState({}, {})


def test_a_pinned_version_runs_on_every_device_of_the_group() -> None:
    pin = a_pin(V1)
    assert desired_state(a_device(), a_policy(pins=[pin])).slots == {
        "digits": SlotChoice(a_variant(V1), f"pin {pin.id}", PIN_SOAK_S)
    }


def test_a_pin_of_another_group_leaves_the_device_as_it_is() -> None:
    policy = a_policy(pins=[a_pin(V1, TURIN)], groups=[EVERYONE, TURIN])
    found = desired_state(a_device(), policy)
    assert found.slots == {}
    assert found.explanation == {"digits": ("nothing is assigned: the device keeps what it runs",)}


@pytest.mark.parametrize(("age_of_lyon_s", "expected"), [(10, V1), (1000, V2)])
def test_of_several_pins_the_newest_decision_wins(age_of_lyon_s: int, expected: VersionId) -> None:
    pins = [a_pin(V1, LYON, age_s=age_of_lyon_s), a_pin(V2, EVERYONE, age_s=500)]
    for order in (pins, pins[::-1]):
        variant = chosen(a_device(), a_policy(pins=order, groups=[EVERYONE, LYON]))
        assert variant == a_variant(expected)


def test_a_newest_pin_that_does_not_fit_gives_way_to_the_one_before_and_says_why() -> None:
    variants = [a_variant(V1), a_variant(V2, opset=99)]
    policy = a_policy(
        pins=[a_pin(V1, LYON, age_s=500), a_pin(V2, EVERYONE)], groups=[EVERYONE, LYON], variants=variants
    )
    assert chosen(a_device(), policy) == a_variant(V1)
    assert "variant int8 needs opset 99; the profile's runtime ends at 21" in explained(a_device(), policy)


def test_a_device_on_which_nothing_fits_is_left_alone_and_the_reasons_are_kept() -> None:
    small = a_device(profile=a_profile(memory_bytes=1000))
    found = desired_state(small, a_policy(pins=[a_pin(V1)]))
    assert found.slots == {}
    assert found.explanation["digits"] == (
        "pin pi_digits_ve_1_all",
        "variant int8 needs 8000000 bytes of memory; the profile has 1000",
        "nothing is assigned: the device keeps what it runs",
    )


def test_a_version_that_is_not_published_yet_is_not_assigned() -> None:
    assert desired_state(a_device(), a_policy(pins=[a_pin(V1)], variants=[])).slots == {}


def test_models_are_decided_one_by_one() -> None:
    pins = [a_pin(V1), a_pin(V3, model="faces")]
    slots = desired_state(a_device(), a_policy(pins=pins)).slots
    assert {slot: choice.variant for slot, choice in slots.items()} == {"digits": a_variant(V1), "faces": a_variant(V3)}


def test_the_words_say_why_a_variant_and_what_was_passed_over() -> None:
    variants = [
        a_variant(V1, "int8", costs={"camera": a_cost(800.0)}),
        a_variant(V1, "fp32", costs={"camera": a_cost(2100.0)}),
        a_variant(V1, "fp16"),
    ]
    found = desired_state(a_device(), a_policy(pins=[a_pin(V1)], variants=variants))
    assert found.slots["digits"].variant == variants[0]
    assert found.explanation["digits"] == (
        f"pin {a_pin(V1).id}",
        "variant fp16 is fp16; the profile runs int8, fp32",
        "variant int8: 0.8 ms for camera, 1 kB; next best fp32: 2.1 ms, 1 kB",
    )


# --- rules on variants


TWO = [a_variant(V1, "int8"), a_variant(V1, "fp32")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (a_rule(RuleKind.FORBID, "int8", LYON), "fp32"),
        (a_rule(RuleKind.PIN, "fp32", LYON), "fp32"),
        (a_rule(RuleKind.PIN, "fp32", TURIN), "int8"),
        (a_rule(RuleKind.PIN, "fp32", LYON, model="faces"), "int8"),
    ],
    ids=["forbidden", "pinned", "of another group", "of another model"],
)
def test_a_rule_concerns_its_model_on_the_devices_of_its_group(rule: VariantRule, expected: str) -> None:
    policy = a_policy(pins=[a_pin(V1)], groups=[EVERYONE, LYON, TURIN], variants=TWO, rules=[rule])
    assert chosen(a_device(), policy) == a_variant(V1, expected)


def test_a_version_of_which_the_rules_leave_nothing_gives_way_to_the_pin_before() -> None:
    variants = [a_variant(V1, "fp32"), a_variant(V2, "int8")]
    pins = [a_pin(V2), a_pin(V1, LYON, age_s=100)]
    rules = [a_rule(RuleKind.FORBID, "int8")]
    policy = a_policy(pins=pins, groups=[EVERYONE, LYON], variants=variants, rules=rules)
    assert chosen(a_device(), policy) == a_variant(V1, "fp32")
    assert "variant int8 is forbidden for a group of this device" in explained(a_device(), policy)


def test_a_rollout_brings_what_the_rules_leave() -> None:
    variants = [a_variant(V1), a_variant(V2, "int8"), a_variant(V2, "fp32")]
    rules = [a_rule(RuleKind.PIN, "fp32")]
    policy = a_policy(pins=[a_pin(V1)], rollouts=[a_rollout()], variants=variants, rules=rules)
    assert chosen(CANARY, policy) == a_variant(V2, "fp32")


# --- running rollouts


def test_a_running_rollout_gives_the_version_to_the_devices_of_its_stage_alone() -> None:
    rollout = a_rollout()
    policy = a_policy(pins=[a_pin(V1)], rollouts=[rollout])
    assert desired_state(CANARY, policy).slots["digits"] == SlotChoice(
        a_variant(V2), "rollout ro_1, stage 1 of 2", rollout.gate.soak_s, rollout.id
    )
    assert chosen(OTHER, policy) == a_variant(V1)
    assert "stage 1 of 2, which does not include this device yet" in explained(OTHER, policy)


@pytest.mark.parametrize(("above", "expected"), [(0, V1), (1, V2)])
def test_the_cutoff_itself_is_the_first_position_that_is_left_out(above: int, expected: VersionId) -> None:
    cutoff = position(a_rollout().id, CANARY.id) + above
    rollout = a_rollout(stages=(Stage(0.5, cutoff, 5), Stage(1.0, POSITION_END, 10)))
    assert chosen(CANARY, a_policy(pins=[a_pin(V1)], rollouts=[rollout])) == a_variant(expected)


def test_the_next_stage_includes_the_others_and_keeps_the_first() -> None:
    policy = a_policy(pins=[a_pin(V1)], rollouts=[a_rollout(stage=1)])
    assert [chosen(device, policy) for device in (CANARY, OTHER)] == [a_variant(V2)] * 2


def test_a_device_that_enrols_during_the_rollout_falls_under_its_cutoff() -> None:
    """Nothing was stored for it: the same function answers for a device that nobody knew."""
    rollout = a_rollout()
    newcomers = [a_device(f"new-{number}") for number in range(200)]
    policy = a_policy(pins=[a_pin(V1)], rollouts=[rollout])
    given = sum(chosen(device, policy) == a_variant(V2) for device in newcomers)
    assert 80 <= given <= 120


def test_a_rollout_on_another_group_does_not_concern_the_device() -> None:
    rollout = a_rollout(group_id=TURIN.id, stage=1)
    policy = a_policy(pins=[a_pin(V1)], rollouts=[rollout], groups=[EVERYONE, TURIN])
    assert chosen(CANARY, policy) == a_variant(V1)
    assert rollout.id not in explained(CANARY, policy)


def test_a_rollout_of_another_model_does_not_concern_the_slot() -> None:
    policy = a_policy(pins=[a_pin(V1)], rollouts=[a_rollout(model="faces", to_version=V3, stage=1)])
    slots = desired_state(CANARY, policy).slots
    assert (slots["digits"].variant, slots["faces"].variant) == (a_variant(V1), a_variant(V3))


def test_a_device_that_refused_the_new_manifest_stays_on_the_pinned_version() -> None:
    refusing = a_device(CANARY.name, refused=frozenset({a_variant(V2).manifest_sha256}))
    policy = a_policy(pins=[a_pin(V1)], rollouts=[a_rollout()])
    assert chosen(refusing, policy) == a_variant(V1)
    assert "this device has refused the version's variant int8" in explained(refusing, policy)


def test_a_device_that_refused_one_variant_of_a_version_is_not_given_another() -> None:
    refusing = a_device(CANARY.name, refused=frozenset({a_variant(V2).manifest_sha256}))
    both = [a_variant(V1), a_variant(V2), a_variant(V2, name="fp32")]
    policy = a_policy(pins=[a_pin(V1)], rollouts=[a_rollout()], variants=both)
    assert chosen(refusing, policy) == a_variant(V1)


def test_a_device_that_cannot_run_the_new_version_stays_on_the_pinned_one_and_says_why() -> None:
    policy = a_policy(
        pins=[a_pin(V1)], rollouts=[a_rollout()], variants=[a_variant(V1), a_variant(V2, engine="tflite")]
    )
    assert chosen(CANARY, policy) == a_variant(V1)
    assert "needs the engine tflite" in explained(CANARY, policy)


# --- paused rollouts


def test_pause_withholds_the_version_from_a_device_that_has_not_taken_it() -> None:
    """Even from one below the cut-off: taken, not admitted, is what counts."""
    policy = a_policy(pins=[a_pin(V1)], rollouts=[a_rollout(state=RolloutState.PAUSED)])
    assert chosen(CANARY, policy) == a_variant(V1)
    assert "paused before this device took it" in explained(CANARY, policy)


def test_pause_leaves_the_version_where_it_has_been_taken() -> None:
    paused = a_rollout(state=RolloutState.PAUSED)
    policy = a_policy(pins=[a_pin(V1)], rollouts=[paused])
    assert chosen(having_taken(paused), policy) == a_variant(V2)


def test_resume_gives_it_to_the_devices_of_the_stage_again() -> None:
    paused, resumed = a_rollout(state=RolloutState.PAUSED), a_rollout()
    answers = [chosen(CANARY, a_policy(pins=[a_pin(V1)], rollouts=[rollout])) for rollout in (paused, resumed)]
    assert answers == [a_variant(V1), a_variant(V2)]


# --- aborted rollouts


def test_abort_reverts_every_device_to_the_pinned_version() -> None:
    reverting = a_rollout(state=RolloutState.REVERTING)
    policy = a_policy(pins=[a_pin(V1)], rollouts=[reverting])
    assert chosen(having_taken(reverting), policy) == a_variant(V1)
    assert chosen(OTHER, policy) == a_variant(V1)
    assert "rollout ro_1 is reverting" in explained(CANARY, policy)


@pytest.mark.parametrize("state", [RolloutState.REVERTING, RolloutState.ABORTED])
def test_abort_of_a_first_rollout_empties_the_slot_of_the_devices_that_took_it(state: RolloutState) -> None:
    first = a_rollout(from_version=None, state=state)
    assert desired_state(having_taken(first), a_policy(rollouts=[first])).slots == {
        "digits": SlotChoice(None, "aborted without a version before it", 0.0)
    }


def test_abort_of_a_first_rollout_says_nothing_to_devices_that_did_not_take_it() -> None:
    """They may run a model of that name that came from elsewhere."""
    first = a_rollout(from_version=None, state=RolloutState.ABORTED)
    assert desired_state(OTHER, a_policy(rollouts=[first])).slots == {}


def test_a_pin_after_an_aborted_first_rollout_fills_the_slot_again() -> None:
    first = a_rollout(from_version=None, state=RolloutState.ABORTED)
    policy = a_policy(pins=[a_pin(V3)], rollouts=[first])
    assert chosen(having_taken(first), policy) == a_variant(V3)


def test_a_second_rollout_after_an_aborted_first_reaches_the_devices_of_its_stage() -> None:
    first = a_rollout(id=RolloutId("ro_0"), from_version=None, state=RolloutState.ABORTED)
    second = a_rollout(to_version=V3, from_version=None, created_at=NOW + timedelta(hours=1))
    policy = a_policy(rollouts=[first, second])
    assert chosen(having_taken(first, CANARY), policy) == a_variant(V3)
    assert chosen(having_taken(first, OTHER), policy) is None


def test_a_model_that_was_never_assigned_is_not_taken_off_the_device() -> None:
    """Silence keeps what runs: deleting a pin must not empty a fleet."""
    assert desired_state(a_device(), a_policy(pins=[])).slots == {}
