"""What a reference model brings along: the graph, labelled rows to judge it by, and unlabelled rows to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from controller.artifacts.graph.sessions import Array, Tensors

OPSET = 17
"""The first with LayerNormalization."""
IR_VERSION = 8
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reference:
    """A model to compress."""

    name: str
    model: onnx.ModelProto
    inputs: Tensors
    """Evaluation rows by input name, never seen in training."""
    labels: Labels
    calibration: Tensors
    """Rows for steps that learn from inputs; none of them is among the evaluation rows."""

    def head(self, rows: int) -> "Reference":
        """Return the same model with at most `rows` evaluation rows."""
        return replace(
            self, inputs={name: array[:rows] for name, array in self.inputs.items()}, labels=self.labels[:rows]
        )

    def row(self) -> Tensors:
        """Return one evaluation row."""
        return {name: array[:1] for name, array in self.inputs.items()}


def write_rows(path: Path, rows: Tensors) -> None:
    """Write rows by input name as the `.npz` that a person would upload."""
    arrays: dict[str, Any] = {f"input:{name}": array for name, array in rows.items()}
    np.savez(path, **arrays)


def network(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, Array],
    *,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return a checked model whose initializers are `weights`."""
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), tensor) for tensor, array in weights.items()]
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == "ai.onnx.ml" for node in nodes):
        opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="edgefleet-benchmarks")
    onnx.checker.check_model(model, full_check=True)
    return model
