"""Make a graph smaller without changing what it computes.

Constants are folded, neighbours fused (a convolution with its batch normalisation, a product with its sum), dead
code and everything that inference never reads dropped. onnxslim does the folding and fusing. What comes back is run
against the source: a graph that answers otherwise, or has other inputs or outputs, is thrown away, as the facts say.
"""

import contextlib
import io
import logging
from collections import Counter
from typing import Any

import onnx
import onnxruntime
import onnxslim

from controller.artifacts.graph.probing import answers, difference, probe
from controller.artifacts.graph.stripping import constants_to_initializers, freeze, graphs_of, strip
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Applied, Calibration, Tell
from controller.artifacts.steps.parameters import Optimize
from controller.domain.errors import InvalidInput

DIFFERENCE_MAX = 1e-4
"""Of the largest output: fusing reorders sums, which costs some last bits of FP32 and no more."""
_NEVER = ("weight_tying",)
"""Equal weights stay two: later steps change layers one by one, and a shared tensor would be in their way."""
_LOG_FATAL_ONLY = 4
_WHEN_FUSING = ("graph_fusion", "subexpression_elimination")


class _LeftOutError(Exception):
    """Fusion and folding gave nothing that may be used."""


def apply(model: onnx.ModelProto, parameters: Optimize, calibration: Calibration | None, tell: Tell) -> Applied:
    """Fold, fuse and strip; without `fuse`, fold and strip.

    Facts: `fusion` ("done", "off", or "left out: " with the reason), `largest_difference` of the outputs as a share
    of the largest, `operators` with their number before and after, `constants` turned into initializers, and bytes.
    """
    tell(0.05, "taking out what inference never reads")
    stripped = copy_of(model)
    freeze(stripped)
    constants = constants_to_initializers(stripped)
    strip(stripped)
    tell(0.3, "folding constants and fusing neighbours" if parameters.fuse else "folding constants")
    strayed = 0.0
    try:
        result, strayed = _checked(model, _slimmed(stripped, fuse=parameters.fuse), calibration)
        fusion = "done" if parameters.fuse else "off"
    except _LeftOutError as reason:
        result, fusion = stripped, f"left out: {reason}"
    facts: dict[str, Any] = {
        "fusion": fusion,
        "largest_difference": strayed,
        "constants": constants,
        "operators": _operators(model, result),
        "bytes_before": model.ByteSize(),
        "bytes_after": result.ByteSize(),
    }
    tell(1.0, f"{facts['bytes_before']} bytes became {facts['bytes_after']}; fusion {fusion}")
    return Applied(result, facts)


def _slimmed(stripped: onnx.ModelProto, *, fuse: bool) -> onnx.ModelProto:
    skipped = list(_NEVER if fuse else (*_NEVER, *_WHEN_FUSING))
    quiet = io.StringIO()
    logging.getLogger("onnxslim").setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            slimmed: onnx.ModelProto = onnxslim.slim(copy_of(stripped), skip_optimizations=skipped)
    # It raises whatever went wrong inside, and ends the process where it gives up.
    except (Exception, SystemExit) as error:
        told = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise _LeftOutError(f"onnxslim {onnxslim.__version__} fails on this graph ({told})") from error
    finally:
        # It makes the runtime talk about what it refuses, which the exceptions tell.
        onnxruntime.set_default_logger_severity(_LOG_FATAL_ONLY)
    slimmed.ir_version = stripped.ir_version
    slimmed.producer_name, slimmed.producer_version = stripped.producer_name, stripped.producer_version
    strip(slimmed)
    return slimmed


def _checked(
    source: onnx.ModelProto, slimmed: onnx.ModelProto, calibration: Calibration | None
) -> tuple[onnx.ModelProto, float]:
    if _signature(slimmed) != _signature(source):
        raise _LeftOutError("the fused graph has other inputs or outputs than the source")
    try:
        onnx.checker.check_model(slimmed)
        inputs = probe(source, calibration)
        strayed = difference(answers(source, inputs), answers(slimmed, inputs))
    except (onnx.checker.ValidationError, InvalidInput) as error:
        raise _LeftOutError(f"the fused graph cannot be compared with the source ({error})") from error
    if strayed > DIFFERENCE_MAX:
        raise _LeftOutError(f"the fused graph strays by {strayed:.1e} of the largest output")
    return slimmed, strayed


def _signature(model: onnx.ModelProto) -> list[tuple[str, bytes]]:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    return [(value.name, value.type.SerializeToString(deterministic=True)) for value in (*inputs, *model.graph.output)]


def _operators(before: onnx.ModelProto, after: onnx.ModelProto) -> list[dict[str, Any]]:
    counted = [Counter(node.op_type for graph in graphs_of(m.graph) for node in graph.node) for m in (before, after)]
    names = sorted(counted[0] | counted[1])
    return [{"name": name, "before": counted[0][name], "after": counted[1][name]} for name in names]
