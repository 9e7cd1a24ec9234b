"""Manifests: built from recorded facts, equal bytes for equal facts, readable by devices."""

import hashlib
import json
from pathlib import Path

import pytest

from controller.artifacts.blob_store import BlobStore
from controller.artifacts.findings import Evaluation, ModelFacts
from controller.artifacts.manifests import onnx_manifest, opaque_manifest
from controller.artifacts.recipes import RECIPES
from device_agent.protocol.manifest import GOLDEN_FILE, Manifest, Packed, TensorSpec, parse_manifest
from device_agent.protocol.profile import DeviceProfile, incompatibilities

FACTS = ModelFacts(
    (TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 3)),), 17, ("Gemm",), "int8", 15, 1000
)
EVALUATION = Evaluation("accuracy", 0.97, 0.98, 0.99, 400, 32, 0.01, 0.001, drop_ci=(0.0, 0.02))
PROFILE = DeviceProfile("small", "x86_64", "opaque", "1", 0, (), 0)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "artifacts")


def stored(blobs: BlobStore, content: bytes) -> str:
    writer = blobs.open_writer()
    writer.feed(content)
    return writer.commit().sha256


def build(blobs: BlobStore, packed: dict[str, str] | None = None) -> Manifest:
    return onnx_manifest(
        blobs,
        model="digits",
        version=3,
        recipe=RECIPES["int8"].to_json(),
        source_sha256="0" * 64,
        files={"model.onnx": stored(blobs, b"model"), GOLDEN_FILE: stored(blobs, b"golden")},
        facts=FACTS,
        evaluation=EVALUATION,
        packed=packed or {},
    )


def test_a_device_reads_back_what_was_built(blobs: BlobStore) -> None:
    manifest = build(blobs)
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert manifest.behaviour.golden == GOLDEN_FILE
    assert manifest.behaviour.evaluation == {
        "metric": "accuracy",
        "value": 0.97,
        "source_value": 0.98,
        "agreement": 0.99,
        "samples": 400,
        "value_ci": None,
        "source_ci": None,
        "drop_ci": [0.0, 0.02],
        "worst_class": None,
        "calibration": None,
        "similarity": None,
    }
    assert manifest.recipe["version"] == RECIPES["int8"].version


def test_the_same_facts_give_the_same_bytes(blobs: BlobStore) -> None:
    assert build(blobs).to_bytes() == build(blobs).to_bytes()


def test_an_artifact_with_a_packed_form_names_it_and_the_others_do_not(blobs: BlobStore) -> None:
    form = stored(blobs, b"mod")
    manifest = build(blobs, {"model.onnx": form})
    assert parse_manifest(manifest.to_bytes()).artifacts == manifest.artifacts
    model, golden = manifest.artifacts
    assert model.packed == Packed("xz", 3, form, blobs.chunks(form))
    assert (model.length, model.sha256, golden.packed) == (5, hashlib.sha256(b"model").hexdigest(), None)
    assert manifest.wire_bytes == len(b"mod") + len(b"golden")


def test_an_opaque_artifact_may_travel_packed(blobs: BlobStore) -> None:
    sha256, form = stored(blobs, b"anything"), stored(blobs, b"any")
    manifest = opaque_manifest(blobs, model="firmware", version=1, source_sha256=sha256, packed={"artifact.bin": form})
    assert parse_manifest(manifest.to_bytes()).wire_bytes == len(b"any")


def test_a_packed_form_of_no_artifact_is_a_mistake_of_the_caller(blobs: BlobStore) -> None:
    with pytest.raises(AssertionError, match=r"no artifact \['golden'\]"):
        build(blobs, {"golden": stored(blobs, b"gold")})


def test_an_opaque_manifest_fits_every_device(blobs: BlobStore) -> None:
    manifest = opaque_manifest(blobs, model="firmware", version=1, source_sha256=stored(blobs, b"anything"))
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert incompatibilities(manifest.runtime, PROFILE) == ()


def test_findings_survive_their_stored_form() -> None:
    assert ModelFacts.from_json(json.loads(json.dumps(FACTS.to_json()))) == FACTS
    assert Evaluation.from_json(json.loads(json.dumps(EVALUATION.to_json()))) == EVALUATION
