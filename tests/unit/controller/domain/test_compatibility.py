import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from controller.domain.catalog import PublishedVariant
from controller.domain.compatibility import EQUAL_SHARE, Incompatible, Selected, select_variant
from controller.domain.costs import DeviceClass, unfit
from controller.domain.ids import VariantId
from controller.domain.variant_rules import VariantRules
from device_agent.protocol.channels import Channel
from device_agent.protocol.profile import DeviceProfile
from tests.support.decisions import a_cost, a_profile, a_variant

INT8, FP16, FP32 = a_variant(name="int8"), a_variant(name="fp16"), a_variant(name="fp32")
CLASS = a_profile().name


def measured(name: str, p50_us: float, *, wire_bytes: int = 1000, **changes: Any) -> PublishedVariant:
    """Return a variant that was measured for the ordinary class."""
    return a_variant(name=name, precision="fp32", wire_bytes=wire_bytes, costs={CLASS: a_cost(p50_us, **changes)})


def unfitting(name: str) -> PublishedVariant:
    cost = unfit(DeviceClass(CLASS, 1, 1000), "cannot load and run within 1000 bytes", "a processor")
    return a_variant(name=name, precision="fp32", costs={CLASS: cost})


def select(
    variants: Sequence[PublishedVariant],
    *,
    pinned: Sequence[str] = (),
    forbidden: Sequence[str] = (),
    profile: DeviceProfile | None = None,
) -> Selected | Incompatible:
    rules = VariantRules(frozenset(pinned), frozenset(forbidden))
    return select_variant(profile or a_profile(), variants, rules)


def selected(variants: Sequence[PublishedVariant], **rest: Any) -> Selected:
    found = select(variants, **rest)
    assert isinstance(found, Selected), found
    return found


def reasons(variants: Sequence[PublishedVariant], **rest: Any) -> tuple[str, ...]:
    found = select(variants, **rest)
    assert isinstance(found, Incompatible), found
    return found.reasons


# --- without measurements


def test_the_precision_that_the_profile_names_first_is_chosen() -> None:
    all_three = [INT8, FP16, FP32]
    assert selected(all_three, profile=a_profile(precisions=("fp32", "int8"))).variant == FP32
    assert selected(all_three, profile=a_profile(precisions=("int8", "fp32"))).variant == INT8


def test_of_equal_precisions_the_one_with_fewest_bytes_on_the_wire_is_chosen() -> None:
    pruned = a_variant(name="pruned", precision="int8", wire_bytes=900)
    assert selected([INT8, pruned]).variant == pruned


def test_equal_devices_get_equal_variants_in_whatever_order_they_are_read() -> None:
    twins = [a_variant(name=name, precision="int8") for name in ("b", "a", "c")]
    chosen = {selected(order) for order in itertools.permutations(twins)}
    assert {found.variant for found in chosen} == {twins[1]}
    assert len(chosen) == 1


def test_a_choice_by_precision_says_what_was_not_measured() -> None:
    found = selected([INT8, FP32, FP16])
    assert found.reason == ("int8: by the precisions of camera (int8, fp32), 1 kB; not measured for camera: fp32, int8")
    assert found.passed_over == ("variant fp16 is fp16; the profile runs int8, fp32",)


def test_an_opaque_artifact_fits_every_profile() -> None:
    opaque = a_variant(name="opaque", engine="opaque", opset=0, precision="none", memory_bytes=10**12)
    assert selected([opaque]).variant == opaque


def test_a_version_without_published_variants_fits_nobody_and_says_why() -> None:
    assert reasons([]) == ("no variant of this version is published",)


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (a_variant(engine="tflite"), "variant int8 needs the engine tflite; the profile has onnxruntime"),
        (a_variant(opset=22), "variant int8 needs opset 22; the profile's runtime ends at 21"),
        (a_variant(name="fp16"), "variant fp16 is fp16; the profile runs int8, fp32"),
        (
            a_variant(memory_bytes=600_000_000),
            "variant int8 needs 600000000 bytes of memory; the profile has 512000000",
        ),
        (unfitting("int8"), "variant int8 did not run as a camera: it cannot load and run within 1000 bytes"),
    ],
)
def test_a_variant_that_does_not_fit_is_named_with_its_reason(variant: PublishedVariant, reason: str) -> None:
    assert reasons([variant]) == (reason,)


def test_every_variant_and_every_reason_is_named() -> None:
    large = a_variant(name="fp32", memory_bytes=600_000_000)
    assert reasons([INT8, large], profile=a_profile(opset_max=16)) == (
        "variant int8 needs opset 17; the profile's runtime ends at 16",
        (
            "variant fp32 needs opset 17; the profile's runtime ends at 16; "
            "needs 600000000 bytes of memory; the profile has 512000000"
        ),
    )


# --- with measurements


def test_the_quickest_variant_wins_whatever_its_precision_and_size_and_says_by_how_much() -> None:
    found = selected([measured("slow", 2100.0, wire_bytes=900), measured("quick", 800.0, wire_bytes=12_000)])
    assert found == Selected(
        measured("quick", 800.0, wire_bytes=12_000),
        "quick: 0.8 ms for camera, 12 kB; next best slow: 2.1 ms, 900 bytes",
    )


def test_a_variant_alone_says_so() -> None:
    assert selected([measured("int8", 800.0)]).reason == "int8: 0.8 ms for camera, 1 kB; nothing else may be given"


@pytest.mark.parametrize(
    ("slower_us", "expected"), [(1000.0 * EQUAL_SHARE, "small"), (1000.0 * EQUAL_SHARE + 1, "quick")]
)
def test_within_a_tenth_of_the_quickest_the_fewest_bytes_decide(slower_us: float, expected: str) -> None:
    found = selected([measured("quick", 1000.0, wire_bytes=2000), measured("small", slower_us, wire_bytes=1000)])
    assert found.variant.name == expected


def test_a_tie_is_told_as_one() -> None:
    found = selected([measured("quick", 1000.0, wire_bytes=2_500_000), measured("small", 1050.0, wire_bytes=10**6)])
    assert found.reason == "small: 1.05 ms for camera, 1 MB; quick is as quick (1 ms) and no smaller (2.5 MB)"


def test_measured_twins_are_told_apart_by_their_names_in_whatever_order_they_are_read() -> None:
    twins = [measured(name, p50_us) for name, p50_us in (("b", 1000.0), ("a", 1010.0), ("c", 990.0))]
    assert {selected(order).variant.name for order in itertools.permutations(twins)} == {"a"}


def test_a_variant_that_was_not_measured_leaves_the_choice_to_the_precisions() -> None:
    found = selected([measured("fp32", 1.0), a_variant(name="int8", costs={"gateway": a_cost(1.0)})])
    assert found.variant.name == "int8"
    assert "not measured for camera: int8" in found.reason


def test_a_variant_that_does_not_fit_need_not_have_been_measured() -> None:
    found = selected([measured("slow", 2000.0), measured("quick", 1000.0), FP16])
    assert found.variant.name == "quick"
    assert found.passed_over == ("variant fp16 is fp16; the profile runs int8, fp32",)


def test_the_best_that_did_not_run_as_the_class_gives_way_to_the_next() -> None:
    found = selected([unfitting("tiny"), measured("fp32", 5000.0)])
    assert found.variant.name == "fp32"
    assert found.passed_over == ("variant tiny did not run as a camera: it cannot load and run within 1000 bytes",)


def test_factors_that_were_learnt_between_two_publications_do_not_turn_the_order_round() -> None:
    """The class is as slow for the one as for the other, whenever that was found out."""
    before = replace(measured("old", 1000.0, factor=1.0), id=VariantId("va_1"))
    after = replace(measured("new", 500.0, factor=8.0), id=VariantId("va_2"))
    found = selected([before, after])
    assert found.reason == "new: 4 ms for camera, 1 kB; next best old: 8 ms, 1 kB"


def test_a_device_with_less_memory_than_its_class_had_is_not_given_what_needs_more() -> None:
    small = a_profile(memory_bytes=10_000_000)
    needy = measured("needy", 1.0, peak_bytes=10_000_001)
    modest = measured("modest", 9.0, peak_bytes=10_000_000)
    found = selected([needy, modest], profile=small)
    assert found.variant == modest
    assert found.passed_over == (
        "variant needy was measured to need 10000001 bytes of memory; the profile has 10000000",
    )
    assert selected([needy, modest]).variant == needy


# --- channels

PROD = a_profile(channel=Channel.PROD)


def test_a_device_on_prod_is_given_released_variants_alone() -> None:
    released = replace(FP32, released=True)
    found = selected([INT8, released], profile=PROD)
    assert found.variant == released
    told = "variant int8 is not released, and the device takes released versions only"
    assert found.passed_over == (told,)


def test_a_version_that_is_not_released_fits_no_device_on_prod() -> None:
    found = select([INT8], profile=PROD)
    assert isinstance(found, Incompatible)
    assert found.reasons == ("variant int8 is not released, and the device takes released versions only",)


def test_a_device_on_dev_is_given_what_is_not_released_too() -> None:
    assert selected([INT8, replace(FP32, released=True)]).variant == INT8


def test_a_variant_that_is_released_for_other_hardware_is_passed_over() -> None:
    released = replace(INT8, released=True, hardware=("gateway", "robot"))
    found = selected([released, replace(FP32, released=True, hardware=("camera",))], profile=PROD)
    assert found.variant.name == "fp32"
    assert found.passed_over == ("variant int8 is released for gateway, robot alone, and this is a camera",)


# --- rules


def test_a_forbidden_variant_gives_way_to_the_next_best() -> None:
    found = selected([INT8, FP32], forbidden=["int8"])
    assert found.variant == FP32
    assert found.passed_over == ("variant int8 is forbidden for a group of this device",)


def test_a_version_whose_variants_are_all_forbidden_fits_nobody() -> None:
    assert reasons([INT8], forbidden=["int8"]) == ("variant int8 is forbidden for a group of this device",)


def test_a_pinned_variant_is_given_although_another_is_better() -> None:
    found = selected([measured("quick", 1.0), measured("slow", 1000.0)], pinned=["slow"])
    assert found.variant.name == "slow"
    assert found.passed_over == ("variant quick gives way to what is pinned for a group of this device: slow",)


def test_of_several_pinned_variants_the_best_is_given() -> None:
    variants = [measured("a", 1.0), measured("b", 1000.0), measured("c", 500.0)]
    assert selected(variants, pinned=["b", "c"]).variant.name == "c"


def test_a_pin_is_strict_where_the_version_has_the_variant() -> None:
    told = reasons([a_variant(name="int8", opset=99), FP32], pinned=["int8"])
    assert told == (
        "variant int8 needs opset 99; the profile's runtime ends at 21",
        "variant fp32 gives way to what is pinned for a group of this device: int8",
    )


def test_a_pin_on_a_variant_that_the_version_lacks_is_told_and_binds_nothing() -> None:
    found = selected([INT8, FP32], pinned=["tiny"])
    assert found.variant == INT8
    assert found.passed_over == ("this version has none of the pinned variants: tiny",)


def test_what_one_group_pins_and_another_forbids_is_not_given_and_neither_is_anything_else() -> None:
    told = reasons([INT8, FP32], pinned=["int8"], forbidden=["int8"])
    assert told == (
        "variant int8 is forbidden for a group of this device",
        "variant fp32 gives way to what is pinned for a group of this device: int8",
    )


def test_a_sealed_variant_is_not_for_a_device_without_an_encryption_key() -> None:
    sealed = replace(a_variant(name="int8"), content_key="va_1")
    found = select_variant(a_profile(), [sealed], can_unseal=False)
    assert found == Incompatible(("variant int8 is sealed, and this device has no encryption key",))
    with_key = select_variant(a_profile(), [sealed], can_unseal=True)
    assert isinstance(with_key, Selected)
    assert with_key.variant is sealed


def test_without_an_encryption_key_a_device_gets_what_is_not_sealed() -> None:
    sealed, clear = replace(a_variant(name="int8"), content_key="va_1"), a_variant(name="fp32")
    found = select_variant(a_profile(), [sealed, clear], can_unseal=False)
    assert isinstance(found, Selected)
    assert found.variant is clear
