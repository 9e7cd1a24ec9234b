"""Manifests for tests: valid, small, and different where a test says so."""

from dataclasses import replace

from device_agent.protocol.manifest import (
    GOLDEN_FILE,
    ArtifactEntry,
    Behaviour,
    Manifest,
    Runtime,
    TensorSpec,
)


def a_manifest(model: str = "digits", version: int = 1, variant: str = "int8") -> Manifest:
    """Return the manifest of a small ONNX classifier with golden tensors."""
    return Manifest(
        model=model,
        version=version,
        variant=variant,
        format="onnx",
        main="model.onnx",
        artifacts=(
            ArtifactEntry("model.onnx", 300_000, "a" * 64, ("b" * 64, "c" * 64)),
            ArtifactEntry(GOLDEN_FILE, 4_000, "d" * 64, ("e" * 64,)),
        ),
        inputs=(TensorSpec("image", "FP32", (-1, 64)),),
        outputs=(TensorSpec("scores", "FP32", (-1, 10)),),
        runtime=Runtime("onnxruntime", 17, ("Gemm", "Relu"), "int8", 8_000_000),
        behaviour=Behaviour(GOLDEN_FILE, 1e-3, 1e-2, {"metric": "accuracy", "value": 0.97}),
        recipe={"name": variant},
        source_sha256="f" * 64,
    )


def manifest_bytes(model: str = "digits", version: int = 1, *, memory_bytes: int = 8_000_000) -> bytes:
    """Return a manifest as it is signed; another memory demand makes other content under the same path."""
    manifest = a_manifest(model, version)
    return replace(manifest, runtime=replace(manifest.runtime, memory_bytes=memory_bytes)).to_bytes()
