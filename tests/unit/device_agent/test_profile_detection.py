"""What the machine says of itself without loading the engine."""

import platform

from device_agent.profile_detection import detect_profile, engine_version, opset_max


def test_the_newest_known_operator_set_at_or_below_the_release_is_used() -> None:
    assert [opset_max(version) for version in ("1.16.3", "1.17.0", "1.20.1", "1.32.0", "1.99.0", "2.0.0")] == [
        0,
        20,
        21,
        28,
        28,
        28,
    ]


def test_the_profile_joins_what_is_configured_with_what_is_found() -> None:
    profile = detect_profile("pi", ("int8",), 1000, threads=4)
    assert (profile.name, profile.precisions, profile.memory_bytes, profile.threads) == ("pi", ("int8",), 1000, 4)
    assert (profile.engine, profile.engine_version, profile.arch) == (
        "onnxruntime",
        engine_version(),
        platform.machine(),
    )
