"""Lay the weights out in a second file that devices map from disk instead of copying it. Comes last in a recipe.

What saves memory are tables that are looked up in, such as embeddings: the runtime reads them where they lie. Matrices
that are multiplied by it copies into an order of its own while it loads, wherever they come from.

A graph in memory holds its weights whatever its layout on disk: `apply` brings them into the form that can be laid
out and says what will be; `write` makes the two files.
"""

from pathlib import Path

import onnx
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from controller.artifacts.graph.probing import answers, probe
from controller.artifacts.graph.sessions import Session
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable
from controller.artifacts.steps.parameters import ExternalData
from controller.domain.errors import InvalidInput

MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "weights.bin"
PAGE_BYTES = 4096
"""Offsets are multiples of this, so that a tensor can be mapped alone (ONNX, "External Data", on `offset`)."""


def apply(model: onnx.ModelProto, parameters: ExternalData, calibration: Calibration | None, tell: Tell) -> Applied:
    """Return the graph, still with all its weights, ready for `write`; refuses one without a tensor of `bytes_min`.

    Facts: `layout` "external", and the `tensors` and their `bytes` that will lie in the second file.
    """
    del calibration
    changed = copy_of(model)
    for tensor in changed.graph.initializer:
        if not tensor.HasField("raw_data") and tensor.data_type != onnx.TensorProto.STRING:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    moved = _moved(changed, parameters)
    if not moved:
        raise inapplicable(
            f"external_data moves weights of {parameters.bytes_min} bytes and more, and this model has none; leave "
            "external_data out, or lower bytes_min"
        )
    layers = [{"name": tensor.name, "bytes": len(tensor.raw_data)} for tensor in moved]
    size = sum(len(tensor.raw_data) for tensor in moved)
    tell(1.0, f"{len(moved)} tensors, {size} bytes, go to {WEIGHTS_FILE}")
    return Applied(changed, {"layout": "external", "tensors": len(moved), "bytes": size, "layers": layers})


def write(model: onnx.ModelProto, directory: Path, parameters: ExternalData) -> list[Path]:
    """Write what `apply` returned as `model.onnx` and `weights.bin`, and return their paths.

    Files of these names are replaced. The result is loaded and run; InvalidInput(`recipe_inapplicable`) when it does
    not answer exactly as the model in memory.
    """
    laid_out = copy_of(model)
    end = 0
    for tensor in _moved(laid_out, parameters):
        start = -(-end // PAGE_BYTES) * PAGE_BYTES
        set_external_data(tensor, WEIGHTS_FILE, offset=start, length=len(tensor.raw_data))
        end = start + len(tensor.raw_data)
    paths = [directory / MODEL_FILE, directory / WEIGHTS_FILE]
    # onnx appends to a file that is there.
    paths[1].unlink(missing_ok=True)
    onnx.save_model(laid_out, paths[0])
    _prove(model, paths[0])
    return paths


def _moved(model: onnx.ModelProto, parameters: ExternalData) -> list[onnx.TensorProto]:
    # An empty tensor has nothing to be mapped.
    return [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= max(1, parameters.bytes_min)]


def _prove(model: onnx.ModelProto, path: Path) -> None:
    session = Session(path)
    inputs = probe(model, None)
    try:
        expected = answers(model, inputs)
    except InvalidInput:
        # Drawn inputs do not suit every model; that the files load is then all that can be shown.
        return
    got = session.run(inputs)
    if any(array.tobytes() != got[name].tobytes() for name, array in expected.items()):
        raise inapplicable("with its weights in a second file the model answers otherwise; leave external_data out")
