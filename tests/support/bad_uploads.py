"""Uploads that the controller must refuse, each made from a good linear model or a good set of evaluation data."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.support import hostile_models
from tests.support.onnx_models import golden_rows, linear_model

ROWS = 20


def text(file: Path) -> None:
    """Write something that is no model."""
    file.write_text("epoch,loss\n1,0.7\n")


def truncated(file: Path) -> None:
    """Write the first half of a model."""
    linear_model(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def reaching_outside(file: Path) -> None:
    """Write a model whose weights lie in a file that is none of its business."""
    linear_model(file)
    model = onnx.load(file)
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../operator.token")
    file.write_bytes(model.SerializeToString())


def of_unknown_operator(file: Path) -> None:
    """Write a model with an operator that nobody has heard of."""
    _one_node(file, "Frobnicate", opset=17)


def of_future_opset(file: Path) -> None:
    """Write a model of an operator set that the runtime does not have."""
    _one_node(file, "Relu", opset=99)


def unfolding_without_end(file: Path) -> None:
    """Write a model of four kilobytes whose functions stand for more nodes than any machine can hold."""
    file.write_bytes(hostile_models.unfolding(60))


def _one_node(file: Path, operator: str, opset: int) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "graph", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), file)


def evaluation_with(file: Path, **arrays: Any) -> None:
    """Write evaluation data of a linear model, with `inputs` or `labels` replaced."""
    np.savez(file, **{"inputs": golden_rows(ROWS), "labels": np.zeros(ROWS, np.int64), **arrays})
