"""Tiny real ONNX models, with golden tensors and manifests, made in milliseconds."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from device_agent.protocol.manifest import (
    CHUNK_BYTES,
    GOLDEN_FILE,
    ArtifactEntry,
    Behaviour,
    Manifest,
    Runtime,
    TensorSpec,
)

INPUT = "x"
OUTPUT = "scores"
OPSET = 17
MAIN_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


def linear_weights(features: int = 4, classes: int = 3) -> npt.NDArray[np.float32]:
    """Return the weights of every `linear_model`: fixed, distinct, with no effect of rounding."""
    weights = (np.arange(features * classes).reshape(features, classes) - classes) / 4
    return weights.astype(np.float32)


def linear_model(path: Path, *, bias: float = 0.0, features: int = 4, classes: int = 3) -> None:
    """Write `scores = x @ weights + bias`: x is FP32 [-1, features], scores FP32 [-1, classes].

    The bias tells versions apart: the scores of two of them differ by the difference of their biases.
    """
    biases = np.full(classes, bias, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", [INPUT, "weights", "biases"], [OUTPUT])],
        "linear",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", classes])],
        [
            numpy_helper.from_array(linear_weights(features, classes), "weights"),
            numpy_helper.from_array(biases, "biases"),
        ],
    )
    write_model(path, graph)


def write_model(path: Path, graph: onnx.GraphProto) -> None:
    """Check a graph and write it as a model that the pinned runtime reads."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def golden_rows(rows: int, features: int = 4, *, seed: int = 7) -> npt.NDArray[np.float32]:
    """Return inputs that are the same on every call."""
    return np.random.default_rng(seed).normal(size=(rows, features)).astype(np.float32)


def golden_npz(model_path: Path, out_path: Path, rows: int) -> None:
    """Write golden tensors: fixed inputs with the outputs that the model really gives for them."""
    session = onnxruntime.InferenceSession(str(model_path), providers=["CPUExecutionProvider"])
    feeds = {node.name: golden_rows(rows, node.shape[1]) for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, feeds), strict=True))
    write_golden(out_path, inputs=feeds, outputs=outputs)


def write_golden(path: Path, *, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    """Write golden tensors under the names that the manifest's golden artifact has them by."""
    arrays: dict[str, Any] = {f"input:{name}": array for name, array in inputs.items()}
    arrays |= {f"output:{name}": array for name, array in outputs.items()}
    np.savez(path, **arrays)


def artifact_entry(path: Path) -> ArtifactEntry:
    """Return the manifest's entry for a file."""
    content = path.read_bytes()
    chunks = [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]
    return ArtifactEntry(
        path.name,
        len(content),
        hashlib.sha256(content).hexdigest(),
        tuple(hashlib.sha256(chunk).hexdigest() for chunk in chunks),
    )


def manifest_for(
    directory: Path,
    *,
    model: str = "digits",
    version: int = 1,
    features: int = 4,
    classes: int = 3,
    absolute_tolerance: float = 1e-4,
    relative_tolerance: float = 1e-3,
) -> Manifest:
    """Return the manifest of a linear model, over the files that are in the directory."""
    artifacts = [path for path in sorted(directory.iterdir()) if path.name != MANIFEST_FILE]
    golden = GOLDEN_FILE if (directory / GOLDEN_FILE).exists() else None
    return Manifest(
        model=model,
        version=version,
        variant="fp32",
        format="onnx",
        main=MAIN_FILE,
        artifacts=tuple(artifact_entry(path) for path in artifacts),
        inputs=(TensorSpec(INPUT, "FP32", (-1, features)),),
        outputs=(TensorSpec(OUTPUT, "FP32", (-1, classes)),),
        runtime=Runtime("onnxruntime", OPSET, ("Gemm",), "fp32", 1_000_000),
        behaviour=Behaviour(golden, absolute_tolerance, relative_tolerance, {}),
        recipe={},
        source_sha256=artifact_entry(directory / MAIN_FILE).sha256,
    )


def model_directory(store: Path, *, bias: float = 0.0, version: int = 1, rows: int = 8) -> tuple[Path, str]:
    """Make `store/<manifest sha256>/` as a device holds it; return the directory and that sha256."""
    building = store / f"building-{version}-{bias:g}"
    building.mkdir(parents=True)
    linear_model(building / MAIN_FILE, bias=bias)
    golden_npz(building / MAIN_FILE, building / GOLDEN_FILE, rows)
    content = manifest_for(building, version=version).to_bytes()
    (building / MANIFEST_FILE).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return building.rename(store / digest), digest


def linear_evaluation(path: Path, features: int = 4, classes: int = 3) -> None:
    """Write evaluation data on which every `linear_model` is right, also after its weights were rounded to 8 bits."""
    rows = golden_rows(400, features)
    scores = np.sort(rows @ linear_weights(features, classes))
    clear = rows[scores[:, -1] - scores[:, -2] > 0.2]
    np.savez(path, inputs=clear, labels=(clear @ linear_weights(features, classes)).argmax(axis=1))
