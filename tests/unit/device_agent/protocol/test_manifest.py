import hashlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import (
    CHUNK_BYTES,
    MANIFEST_BYTES_MAX,
    NAME,
    LineageEntry,
    Manifest,
    Packed,
    parse_manifest,
    target_path,
)
from tests.support.malformed_json import damaged, refusal_of
from tests.support.manifests import a_manifest

VALID: dict[str, Any] = json.loads(a_manifest().to_bytes())
PACKED: dict[str, Any] = {"encoding": "xz", "length": 270_000, "sha256": "9" * 64, "chunks": ["7" * 64, "8" * 64]}


def a_packed_manifest() -> Manifest:
    """Return a manifest whose first artifact travels packed."""
    first, *others = a_manifest().artifacts
    packed = Packed("xz", 270_000, "9" * 64, ("7" * 64, "8" * 64))
    return replace(a_manifest(), artifacts=(replace(first, packed=packed), *others))


def with_packed(packed: object) -> dict[str, Any]:
    return {**VALID, "artifacts": [{**VALID["artifacts"][0], "packed": packed}, *VALID["artifacts"][1:]]}


def refusal(document: object) -> ProtocolError:
    with pytest.raises(ProtocolError) as refused:
        parse_manifest(json.dumps(document).encode())
    return refused.value


def test_a_manifest_survives_the_wire() -> None:
    assert parse_manifest(a_manifest().to_bytes()) == a_manifest()


def test_a_manifest_has_one_encoding() -> None:
    raw = a_manifest().to_bytes()
    assert parse_manifest(raw).to_bytes() == raw


def test_a_manifest_without_packed_forms_keeps_the_digest_it_always_had() -> None:
    digest = hashlib.sha256(a_manifest().to_bytes()).hexdigest()
    assert digest == "f2bbcdf33a0cb4cb8bb14e489569df24bb8a7f9f538ded3a36fdc84c7f52356f"


def test_a_packed_form_survives_the_wire() -> None:
    raw = a_packed_manifest().to_bytes()
    assert json.loads(raw) == with_packed(PACKED)
    assert parse_manifest(raw) == a_packed_manifest()


def test_no_packed_form_and_null_are_the_same() -> None:
    assert parse_manifest(json.dumps(with_packed(None)).encode()) == a_manifest()


def test_a_manifest_says_how_much_a_device_downloads_and_how_much_it_stores() -> None:
    assert (a_manifest().artifact_bytes, a_manifest().wire_bytes) == (304_000, 304_000)
    assert (a_packed_manifest().artifact_bytes, a_packed_manifest().wire_bytes) == (304_000, 274_000)
    assert [entry.wire_bytes for entry in a_packed_manifest().artifacts] == [270_000, 4_000]


def test_an_encoding_from_the_future_is_refused_by_its_name() -> None:
    refused = refusal(with_packed({**PACKED, "encoding": "rans2"}))
    assert refused.code is Code.INCOMPATIBLE
    assert "model.onnx is packed as 'rans2'; this release unpacks xz" in str(refused)


@pytest.mark.parametrize("length", [300_000, 300_001])
def test_a_packed_form_that_saves_nothing_is_refused(length: int) -> None:
    assert "it must have fewer" in str(refusal(with_packed({**PACKED, "length": length})))


@pytest.mark.parametrize("length", [1, CHUNK_BYTES])
def test_chunk_hashes_that_do_not_fit_the_packed_length_are_refused(length: int) -> None:
    refused = refusal(with_packed({**PACKED, "length": length}))
    assert f"2 chunks for {length} bytes of the packed model.onnx" in str(refused)


@pytest.mark.parametrize("packed", [False, "xz", [], {**PACKED, "encoding": None}, {**PACKED, "sha256": "9"}])
def test_a_packed_form_that_is_none_is_malformed(packed: object) -> None:
    assert refusal(with_packed(packed)).code is Code.MALFORMED


def test_a_lineage_survives_the_wire_and_none_and_null_are_the_same() -> None:
    named = replace(a_manifest(), lineage=LineageEntry(5_000, "9" * 64))
    assert parse_manifest(named.to_bytes()) == named
    assert b"lineage" not in a_manifest().to_bytes()
    assert parse_manifest(json.dumps({**VALID, "lineage": None}).encode()) == a_manifest()


@pytest.mark.parametrize("lineage", [False, "9" * 64, {}, {"length": 0, "sha256": "9" * 64}, {"length": 5}])
def test_a_lineage_that_is_none_is_malformed(lineage: object) -> None:
    assert refusal({**VALID, "lineage": lineage}).code is Code.MALFORMED


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
    assert refusal({**VALID, "artifacts": artifacts}).label == "E_MANIFEST_PATH[manifest]"


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd"])
def test_a_main_file_or_golden_file_outside_of_the_folder_is_refused(name: str) -> None:
    assert refusal({**VALID, "main": name}).code is Code.MANIFEST_PATH
    assert refusal({**VALID, "behaviour": {**VALID["behaviour"], "golden": name}}).code is Code.MANIFEST_PATH


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


SEALED: dict[str, Any] = {
    "encoding": "aes-256-gcm-stream",
    "length": 24 + 4_000,
    "sha256": "7" * 64,
    "chunks": ["8" * 64],
}


def with_sealed(sealed: object, key: object = "va_1") -> dict[str, Any]:
    """Return a manifest of one packed and one plain artifact that both are sealed, the second one as given."""
    model = {
        **with_packed(PACKED)["artifacts"][0],
        "sealed": {**SEALED, "length": 24 + 270_000, "chunks": ["8" * 64] * 2},
    }
    return {**VALID, "content_key": key, "artifacts": [model, {**VALID["artifacts"][1], "sealed": sealed}]}


def test_a_sealed_manifest_survives_the_wire_and_its_sealed_forms_are_what_travels() -> None:
    manifest = parse_manifest(json.dumps(with_sealed(SEALED)).encode())
    assert json.loads(manifest.to_bytes()) == with_sealed(SEALED)
    assert (manifest.content_key, manifest.artifact_bytes, manifest.wire_bytes) == ("va_1", 304_000, 48 + 274_000)
    model, golden = manifest.artifacts
    assert (model.travels, model.clear) == (model.sealed, model.packed)
    assert (golden.travels, golden.clear) == (golden.sealed, golden)


def test_a_manifest_that_is_not_sealed_says_nothing_of_it() -> None:
    assert b"sealed" not in a_manifest().to_bytes()
    assert b"content_key" not in a_manifest().to_bytes()
    document = {**VALID, "content_key": None, "artifacts": [{**one, "sealed": None} for one in VALID["artifacts"]]}
    assert parse_manifest(json.dumps(document).encode()) == a_manifest()


def test_a_seal_from_the_future_is_refused_by_its_name() -> None:
    refused = refusal(with_sealed({**SEALED, "encoding": "xchacha"}))
    assert refused.code is Code.INCOMPATIBLE
    assert "golden.npz is sealed as 'xchacha'; this release opens aes-256-gcm-stream" in str(refused)


def test_a_sealed_form_that_cannot_have_this_length_is_refused() -> None:
    assert "of 4000 bytes it has 4024" in str(refusal(with_sealed({**SEALED, "length": 4_025})))


@pytest.mark.parametrize(
    "document",
    [with_sealed(SEALED, None), with_sealed(None), {**VALID, "content_key": "va_1"}],
    ids=["no key", "one of two", "a key and nothing sealed"],
)
def test_all_artifacts_are_sealed_or_none(document: dict[str, Any]) -> None:
    assert "with a key all are sealed, without one none is" in str(refusal(document))


@pytest.mark.parametrize("key", [7, "", "va", "../va_1", "va_" + "1" * 64])
def test_a_content_key_is_named_by_an_id(key: object) -> None:
    assert refusal(with_sealed(SEALED, key)).code is Code.MALFORMED


@given(damaged(with_sealed(SEALED)))
def test_a_damaged_sealed_form_is_read_or_refused_and_never_an_error(document: object) -> None:
    allowed = {None, Code.MALFORMED, Code.INCOMPATIBLE, Code.MANIFEST_PATH}
    assert refusal_of(lambda: parse_manifest(json.dumps(document).encode())) in allowed


@given(damaged(VALID))
def test_a_damaged_manifest_is_read_or_refused_and_never_an_error(document: object) -> None:
    allowed = {None, Code.MALFORMED, Code.MANIFEST_PATH}
    assert refusal_of(lambda: parse_manifest(json.dumps(document).encode())) in allowed


@given(damaged(with_packed(PACKED)))
def test_a_damaged_packed_form_is_read_or_refused_and_never_an_error(document: object) -> None:
    allowed = {None, Code.MALFORMED, Code.INCOMPATIBLE, Code.MANIFEST_PATH}
    assert refusal_of(lambda: parse_manifest(json.dumps(document).encode())) in allowed


def test_a_target_path_is_made_of_the_manifests_names() -> None:
    assert target_path("digits", 3, "int8") == "dev/digits/3/int8/manifest.json"
    assert target_path("digits", 3, "int8", "prod") == "prod/digits/3/int8/manifest.json"


@pytest.mark.parametrize("name", ["a", "digits", "resnet-50_v1.5", "0", "a" * 64])
def test_names_that_are_safe_in_paths_are_names(name: str) -> None:
    assert NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "A", "-a", "a-", ".", "..", "a/b", "a b", "a" * 65, "a\n", "é", "*"])
def test_names_that_are_not_safe_in_paths_are_none(name: str) -> None:
    assert not re.fullmatch(NAME, name)
