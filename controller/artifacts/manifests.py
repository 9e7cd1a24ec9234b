"""Building the manifest of a variant: the same facts give the same bytes, however often they are asked for."""

from collections.abc import Mapping
from typing import Any

from controller.artifacts.blob_store import BlobStore
from controller.artifacts.findings import Evaluation, ModelFacts
from controller.artifacts.recipes import OPAQUE
from device_agent.protocol.manifest import (
    GOLDEN_FILE,
    ArtifactEntry,
    Behaviour,
    Manifest,
    Runtime,
)

MAIN_FILES = {"onnx": "model.onnx", "opaque": "artifact.bin"}
"""How devices name the main artifact, by format."""
OPAQUE_RUNTIME = Runtime(engine=OPAQUE, opset=0, operators=(), precision=OPAQUE, memory_bytes=0)


def onnx_manifest(
    blobs: BlobStore,
    *,
    model: str,
    version: int,
    recipe: Mapping[str, Any],
    source_sha256: str,
    main_sha256: str,
    golden_sha256: str,
    facts: ModelFacts,
    evaluation: Evaluation,
) -> Manifest:
    """Return the manifest of an ONNX variant; `recipe` is the recipe as it was when the variant was made."""
    main = MAIN_FILES["onnx"]
    return Manifest(
        model=model,
        version=version,
        variant=recipe["name"],
        format="onnx",
        main=main,
        artifacts=(_entry(blobs, main, main_sha256), _entry(blobs, GOLDEN_FILE, golden_sha256)),
        inputs=facts.inputs,
        outputs=facts.outputs,
        runtime=facts.runtime,
        behaviour=Behaviour(
            GOLDEN_FILE, evaluation.absolute_tolerance, evaluation.relative_tolerance, evaluation.figures()
        ),
        recipe=dict(recipe),
        source_sha256=source_sha256,
    )


def opaque_manifest(blobs: BlobStore, *, model: str, version: int, source_sha256: str) -> Manifest:
    """Return the manifest of an opaque variant: the upload itself, without a promise about its behaviour."""
    main = MAIN_FILES["opaque"]
    return Manifest(
        model=model,
        version=version,
        variant=OPAQUE,
        format="opaque",
        main=main,
        artifacts=(_entry(blobs, main, source_sha256),),
        inputs=(),
        outputs=(),
        runtime=OPAQUE_RUNTIME,
        behaviour=Behaviour(None, 0.0, 0.0, {}),
        recipe={"name": OPAQUE},
        source_sha256=source_sha256,
    )


def _entry(blobs: BlobStore, name: str, sha256: str) -> ArtifactEntry:
    return ArtifactEntry(name, blobs.size_bytes(sha256), sha256, blobs.chunks(sha256))
