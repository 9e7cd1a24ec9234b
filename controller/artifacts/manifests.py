"""Building the manifest of a variant: the same facts give the same bytes, however often they are asked for."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from controller.artifacts.blob_store import BlobStore
from controller.artifacts.findings import Evaluation, ModelFacts
from controller.artifacts.recipes import OPAQUE
from device_agent.protocol.manifest import (
    GOLDEN_FILE,
    XZ,
    ArtifactEntry,
    Behaviour,
    LineageEntry,
    Manifest,
    Packed,
    Runtime,
)

MAIN_FILES = {"onnx": "model.onnx", "opaque": "artifact.bin"}
"""How devices name the main artifact, by format."""
OPAQUE_RUNTIME = Runtime(engine=OPAQUE, opset=0, operators=(), precision=OPAQUE, memory_bytes=0)

NOTHING_PACKED: Mapping[str, str] = MappingProxyType({})
"""Every artifact travels as it is."""


def onnx_manifest(
    blobs: BlobStore,
    *,
    model: str,
    version: int,
    recipe: Mapping[str, Any],
    source_sha256: str,
    files: Mapping[str, str],
    facts: ModelFacts,
    evaluation: Evaluation,
    packed: Mapping[str, str] = NOTHING_PACKED,
    lineage: LineageEntry | None = None,
) -> Manifest:
    """Return the manifest of an ONNX variant; `recipe` is the recipe as it was when the variant was made.

    `files` has the sha256 of each artifact by its file name, `packed` that of the packed form of those that have one;
    `lineage` names the statements of how they were made.
    """
    main = MAIN_FILES["onnx"]
    return Manifest(
        model=model,
        version=version,
        variant=recipe["name"],
        format="onnx",
        main=main,
        artifacts=_entries(blobs, files, packed),
        inputs=facts.inputs,
        outputs=facts.outputs,
        runtime=facts.runtime,
        behaviour=Behaviour(
            GOLDEN_FILE, evaluation.absolute_tolerance, evaluation.relative_tolerance, evaluation.figures()
        ),
        recipe=dict(recipe),
        source_sha256=source_sha256,
        lineage=lineage,
    )


def opaque_manifest(
    blobs: BlobStore,
    *,
    model: str,
    version: int,
    source_sha256: str,
    packed: Mapping[str, str] = NOTHING_PACKED,
    lineage: LineageEntry | None = None,
) -> Manifest:
    """Return the manifest of an opaque variant: the upload itself, without a promise about its behaviour.

    `packed` and `lineage` are as in `onnx_manifest`.
    """
    main = MAIN_FILES["opaque"]
    return Manifest(
        model=model,
        version=version,
        variant=OPAQUE,
        format="opaque",
        main=main,
        artifacts=_entries(blobs, {main: source_sha256}, packed),
        inputs=(),
        outputs=(),
        runtime=OPAQUE_RUNTIME,
        behaviour=Behaviour(None, 0.0, 0.0, {}),
        recipe={"name": OPAQUE},
        source_sha256=source_sha256,
        lineage=lineage,
    )


def _entries(blobs: BlobStore, digests: Mapping[str, str], packed: Mapping[str, str]) -> tuple[ArtifactEntry, ...]:
    assert packed.keys() <= digests.keys(), f"there is no artifact {sorted(packed.keys() - digests.keys())} to pack"
    return tuple(_entry(blobs, name, sha256, packed.get(name)) for name, sha256 in digests.items())


def _entry(blobs: BlobStore, name: str, sha256: str, packed: str | None) -> ArtifactEntry:
    wire = Packed(XZ, blobs.size_bytes(packed), packed, blobs.chunks(packed)) if packed else None
    return ArtifactEntry(name, blobs.size_bytes(sha256), sha256, blobs.chunks(sha256), wire)
