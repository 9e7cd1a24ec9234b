import itertools

import pytest

from controller.domain.catalog import PublishedVariant
from controller.domain.compatibility import Incompatible, Selected, select_variant
from tests.support.decisions import a_profile, a_variant

INT8, FP16, FP32 = a_variant(name="int8"), a_variant(name="fp16"), a_variant(name="fp32")


def test_the_precision_that_the_profile_names_first_is_chosen() -> None:
    assert select_variant(a_profile(precisions=("fp32", "int8")), [INT8, FP16, FP32]) == Selected(FP32)
    assert select_variant(a_profile(precisions=("int8", "fp32")), [INT8, FP16, FP32]) == Selected(INT8)


def test_of_equal_precisions_the_one_with_fewest_bytes_on_the_wire_is_chosen() -> None:
    pruned = a_variant(name="pruned", precision="int8", wire_bytes=900)
    assert select_variant(a_profile(), [INT8, pruned]) == Selected(pruned)


def test_equal_devices_get_equal_variants_in_whatever_order_they_are_read() -> None:
    twins = [a_variant(name=name, precision="int8") for name in ("b", "a", "c")]
    chosen = {select_variant(a_profile(), order) for order in itertools.permutations(twins)}
    assert chosen == {Selected(twins[1])}


def test_an_opaque_artifact_fits_every_profile() -> None:
    opaque = a_variant(name="opaque", engine="opaque", opset=0, precision="none", memory_bytes=10**12)
    assert select_variant(a_profile(), [opaque]) == Selected(opaque)


def test_a_version_without_published_variants_fits_nobody_and_says_why() -> None:
    assert select_variant(a_profile(), []) == Incompatible(("no variant of this version is published",))


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
    ],
)
def test_a_variant_that_does_not_fit_is_named_with_its_reason(variant: PublishedVariant, reason: str) -> None:
    assert select_variant(a_profile(), [variant]) == Incompatible((reason,))


def test_every_variant_and_every_reason_is_named() -> None:
    large = a_variant(name="fp32", memory_bytes=600_000_000)
    found = select_variant(a_profile(opset_max=16), [INT8, large])
    assert found == Incompatible(
        (
            "variant int8 needs opset 17; the profile's runtime ends at 16",
            (
                "variant fp32 needs opset 17; the profile's runtime ends at 16; "
                "needs 600000000 bytes of memory; the profile has 512000000"
            ),
        )
    )
