import json
from dataclasses import replace

import pytest
from hypothesis import given

from device_agent.protocol.errors import Code
from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import Runtime
from device_agent.protocol.profile import DeviceProfile, incompatibilities
from tests.support.malformed_json import damaged, refusal_of

PROFILE = DeviceProfile("pi-5", "aarch64", "onnxruntime", "1.32.0", 21, ("int8", "fp32"), 500_000_000)
RUNTIME = Runtime("onnxruntime", 17, ("Gemm",), "int8", 8_000_000)


def read(document: object) -> DeviceProfile:
    return DeviceProfile.read(Fields.from_json(json.dumps(document), "profile"))


@pytest.mark.parametrize("threads", [1, 4, 256])
def test_a_profile_survives_the_wire(threads: int) -> None:
    profile = replace(PROFILE, threads=threads)
    assert read(profile.to_json()) == profile


def test_a_profile_from_before_threads_were_told_has_one() -> None:
    document = PROFILE.to_json()
    del document["threads"]
    assert read(document).threads == 1


@pytest.mark.parametrize("threads", [0, 257, "2", True, 1.5])
def test_threads_that_no_machine_has_are_malformed(threads: object) -> None:
    assert refusal_of(lambda: read({**PROFILE.to_json(), "threads": threads})) is Code.MALFORMED


@given(damaged(PROFILE.to_json()))
def test_a_damaged_profile_is_read_or_malformed_and_never_an_error(document: object) -> None:
    assert refusal_of(lambda: read(document)) in {None, Code.MALFORMED}


def test_a_runtime_within_the_profile_is_compatible() -> None:
    assert incompatibilities(RUNTIME, PROFILE) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"engine": "tflite"}, "needs the engine tflite; the profile has onnxruntime"),
        ({"opset": 22}, "needs opset 22; the profile's runtime ends at 21"),
        ({"precision": "fp16"}, "is fp16; the profile runs int8, fp32"),
        ({"memory_bytes": 500_000_001}, "needs 500000001 bytes of memory; the profile has 500000000"),
    ],
)
def test_each_demand_that_the_profile_cannot_meet_is_a_reason(change: dict[str, object], reason: str) -> None:
    assert incompatibilities(replace(RUNTIME, **change), PROFILE) == (reason,)  # type: ignore[arg-type]


def test_every_reason_is_given_at_once() -> None:
    demands = replace(RUNTIME, opset=30, precision="fp16", memory_bytes=10**12)
    assert len(incompatibilities(demands, PROFILE)) == 3


def test_demands_at_the_limits_are_met() -> None:
    assert incompatibilities(replace(RUNTIME, opset=21, memory_bytes=500_000_000), PROFILE) == ()


def test_what_is_only_delivered_has_no_demands() -> None:
    assert incompatibilities(Runtime("opaque", 0, (), "none", 0), replace(PROFILE, precisions=())) == ()
