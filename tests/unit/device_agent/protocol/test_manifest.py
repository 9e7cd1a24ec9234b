import json
import re
from typing import Any

import pytest
from hypothesis import given

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import MANIFEST_BYTES_MAX, NAME, parse_manifest, target_path
from tests.support.malformed_json import damaged, refusal_of
from tests.support.manifests import a_manifest

VALID: dict[str, Any] = json.loads(a_manifest().to_bytes())


def refusal(document: object) -> ProtocolError:
    with pytest.raises(ProtocolError) as refused:
        parse_manifest(json.dumps(document).encode())
    return refused.value


def test_a_manifest_survives_the_wire() -> None:
    assert parse_manifest(a_manifest().to_bytes()) == a_manifest()


def test_a_manifest_has_one_encoding() -> None:
    raw = a_manifest().to_bytes()
    assert parse_manifest(raw).to_bytes() == raw


def test_a_manifest_says_how_much_a_device_downloads() -> None:
    assert a_manifest().artifact_bytes == 304_000


def test_a_field_from_the_future_is_ignored() -> None:
    assert parse_manifest(json.dumps({**VALID, "colour": "red"}).encode()) == a_manifest()


def test_a_schema_from_the_future_is_refused() -> None:
    assert refusal({**VALID, "schema": 2}).code is Code.MALFORMED


def test_an_oversized_manifest_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_manifest(b" " * (MANIFEST_BYTES_MAX + 1))
    assert refused.value.code is Code.ENDLESS_DATA


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", ".hidden", "", "a" * 129, "a\n"])
def test_an_artifact_name_that_is_a_path_is_refused(name: str) -> None:
    artifacts = [{**VALID["artifacts"][0], "name": name}, *VALID["artifacts"][1:]]
    assert refusal({**VALID, "artifacts": artifacts}).code is Code.MALFORMED


def test_chunk_hashes_that_do_not_fit_the_length_are_refused() -> None:
    artifacts = [{**VALID["artifacts"][0], "length": 600_000}, *VALID["artifacts"][1:]]
    assert "2 chunks for 600000 bytes" in str(refusal({**VALID, "artifacts": artifacts}))


@pytest.mark.parametrize(
    "change",
    [
        {"main": "other.onnx"},
        {"behaviour": {**VALID["behaviour"], "golden": "other.npz"}},
        {"artifacts": [VALID["artifacts"][0]]},
        {"artifacts": [*VALID["artifacts"], VALID["artifacts"][0]]},
    ],
    ids=["main missing", "golden missing", "golden artifact missing", "named twice"],
)
def test_artifacts_that_are_missing_or_named_twice_are_refused(change: dict[str, Any]) -> None:
    assert "must be distinct and include" in str(refusal({**VALID, **change}))


@pytest.mark.parametrize("shape", [None, "64", [-2], ["N"], [1.0]])
def test_a_shape_must_be_whole_numbers(shape: object) -> None:
    assert refusal({**VALID, "inputs": [{**VALID["inputs"][0], "shape": shape}]}).code is Code.MALFORMED


@given(damaged(VALID))
def test_a_damaged_manifest_is_read_or_refused_and_never_an_error(document: object) -> None:
    assert refusal_of(lambda: parse_manifest(json.dumps(document).encode())) in {None, Code.MALFORMED}


def test_a_target_path_is_made_of_the_manifests_names() -> None:
    assert target_path("digits", 3, "int8") == "dev/digits/3/int8/manifest.json"
    assert target_path("digits", 3, "int8", "prod") == "prod/digits/3/int8/manifest.json"


@pytest.mark.parametrize("name", ["a", "digits", "resnet-50_v1.5", "0", "a" * 64])
def test_names_that_are_safe_in_paths_are_names(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", ".", "..", "a/b", "a b", "a" * 65, "a\n", "é", "*"])
def test_names_that_are_not_safe_in_paths_are_none(name: str) -> None:
    assert not re.fullmatch(NAME, name)
