"""Manifests: built from recorded facts, equal bytes for equal facts, readable by devices."""

import json
from pathlib import Path

import pytest

from controller.artifacts.blob_store import BlobStore
from controller.artifacts.findings import Evaluation, ModelFacts
from controller.artifacts.manifests import onnx_manifest, opaque_manifest
from controller.artifacts.recipes import RECIPES
from device_agent.protocol.manifest import GOLDEN_FILE, Manifest, TensorSpec, parse_manifest
from device_agent.protocol.profile import DeviceProfile, incompatibilities

FACTS = ModelFacts(
    (TensorSpec("x", "FP32", (-1, 4)),), (TensorSpec("y", "FP32", (-1, 3)),), 17, ("Gemm",), "int8", 15, 1000
)
EVALUATION = Evaluation("accuracy", 0.97, 0.98, 0.99, 400, 32, 0.01, 0.001)
PROFILE = DeviceProfile("small", "x86_64", "opaque", "1", 0, (), 0)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "artifacts")


def stored(blobs: BlobStore, content: bytes) -> str:
    writer = blobs.open_writer()
    writer.feed(content)
    return writer.commit().sha256


def build(blobs: BlobStore) -> Manifest:
    return onnx_manifest(
        blobs,
        model="digits",
        version=3,
        recipe=RECIPES["int8"].to_json(),
        source_sha256="0" * 64,
        main_sha256=stored(blobs, b"model"),
        golden_sha256=stored(blobs, b"golden"),
        facts=FACTS,
        evaluation=EVALUATION,
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
    }
    assert manifest.recipe["version"] == RECIPES["int8"].version


def test_the_same_facts_give_the_same_bytes(blobs: BlobStore) -> None:
    assert build(blobs).to_bytes() == build(blobs).to_bytes()


def test_an_opaque_manifest_fits_every_device(blobs: BlobStore) -> None:
    manifest = opaque_manifest(blobs, model="firmware", version=1, source_sha256=stored(blobs, b"anything"))
    assert parse_manifest(manifest.to_bytes()) == manifest
    assert incompatibilities(manifest.runtime, PROFILE) == ()


def test_findings_survive_their_stored_form() -> None:
    assert ModelFacts.from_json(json.loads(json.dumps(FACTS.to_json()))) == FACTS
    assert Evaluation.from_json(json.loads(json.dumps(EVALUATION.to_json()))) == EVALUATION
