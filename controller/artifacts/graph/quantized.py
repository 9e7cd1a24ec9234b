"""What quantizing steps share: keeping onnxruntime's quantizers quiet, graphs they cannot take, facts of the result."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from controller.artifacts.graph.exclusions import Chosen, Layer, Quantize, Trial, measured, named
from controller.artifacts.graph.facts import describe
from controller.artifacts.steps.interface import Applied, Tell, inapplicable
from controller.artifacts.steps.parameters import Exclusions
from controller.domain.errors import InvalidInput

FLOAT_BITS = 32
FUSED_DOMAINS = ("com.microsoft", "com.ms")
_QUANTIZED_PRECISIONS = ("int8", "int4")
_MARKS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinear",
    "MatMulInteger",
    "ConvInteger",
    "MatMulNBits",
    "GatherBlockQuantized",
)
"""Parts of operators' names that only quantized graphs have."""
_NOTES = ("onnx.infer", "onnx.quant.pre_process")
"""Metadata that the quantizers leave for each other."""


@dataclass(frozen=True)
class Quantization:
    """A graph on the way to whole numbers: what it is called, what it works on, and how it is done."""

    called: str
    """The word for it that people read in refusals, such as int8."""
    bits: int
    given: onnx.ModelProto
    """The graph as the step was given it."""
    source: onnx.ModelProto
    """The same with a name for every node: what `exclude` speaks of."""
    prepared: onnx.ModelProto
    """What is quantized."""
    layers: Sequence[Layer]
    operators: Sequence[str]
    quantize: Quantize
    most_weights: bool = True
    """Whether a result that keeps most of its weights as they were is refused."""

    def run(self, exclude: Exclusions, trial: Trial | None, tell: Tell) -> Applied:
        """Choose what is left alone, quantize the rest, and say what came of it.

        InvalidInput(`recipe_parameters`) for an unknown node, InvalidInput(`recipe_inapplicable`) where nothing
        worth mentioning is quantized. `measured` exclusions need a trial.
        """
        if not self.layers:
            raise without_layers(self)
        chosen = self._chosen(exclude, trial, tell)
        if chosen.left_alone >= {layer.name for layer in self.layers}:
            raise inapplicable(
                f"exclude names every layer, so that {self.called} has nothing to do; leave {self.called} out"
            )
        made = self.quantize(chosen.left_alone)
        if self.most_weights and not chosen.left_alone and _precision(made) == _precision(self.given):
            raise without_layers(self)
        layers = _layer_facts(self, made, chosen)
        done = sum(fact["bits"] < FLOAT_BITS for fact in layers)
        tell(1.0, f"{done} of {len(layers)} layers are quantized")
        return Applied(made, {"weights": f"int{self.bits}", "layers": layers, **_damage_facts(made, trial)})

    def _chosen(self, exclude: Exclusions, trial: Trial | None, tell: Tell) -> Chosen:
        if exclude == "none":
            return Chosen()
        if exclude == "measured":
            assert trial is not None
            return measured(self.layers, self.quantize, trial, tell)
        return Chosen(named(exclude, self.prepared, self.source))


def refuse_quantized(model: onnx.ModelProto, called: str) -> None:
    """Raise InvalidInput(`recipe_inapplicable`) for a graph whose weights are whole numbers already."""
    facts = describe(model)
    marks = [operator for operator in facts.operators if any(mark in operator for mark in _MARKS)]
    if facts.precision in _QUANTIZED_PRECISIONS or marks:
        shown = f" and computes with {', '.join(marks)}" if marks else ""
        raise inapplicable(
            f"{called} starts from weights that are 32-bit floats, and this model is {facts.precision}{shown}: it is "
            f"quantized already; leave {called} out, or start from the model before it was quantized"
        )


def refuse_fused(model: onnx.ModelProto, called: str) -> None:
    """Raise InvalidInput(`recipe_inapplicable`) for a graph that onnxruntime's optimizer has fused."""
    fused = sorted({f"{node.domain}.{node.op_type}" for node in model.graph.node if node.domain in FUSED_DOMAINS})
    if fused:
        raise inapplicable(
            f"{called} cannot see through nodes that onnxruntime's own optimizer has fused, and this model has "
            f"{', '.join(fused)}; upload the model as it was exported, before that optimisation"
        )


def without_layers(subject: Quantization) -> InvalidInput:
    """Return the refusal of a model that keeps next to no weights where they could be quantized."""
    facts = describe(subject.given)
    *most, last = subject.operators
    return inapplicable(
        f"{subject.called} quantizes the 32-bit float weights of {', '.join(most)} and {last}, and this model "
        f"({facts.precision}) keeps next to none there (its operators: {', '.join(facts.operators)}); "
        f"leave {subject.called} out"
    )


def written_by(write: Callable[[Path], None]) -> onnx.ModelProto:
    """Return the graph that one of onnxruntime's tools writes to a file, without its notes and unused imports.

    InvalidInput(`recipe_inapplicable`) with the library's words where it fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "quantized.onnx"
        with quiet():
            try:
                write(path)
            except Exception as error:  # the library raises whatever it stumbles over
                told = (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
                raise inapplicable(f"onnxruntime's quantizer fails on this graph: {told}") from error
        made = onnx.load(path)
    tidy(made)
    return made


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the quantizers log and print to themselves, and undo what their modules do to logging."""
    root = logging.getLogger()
    disabled, handlers, level = root.manager.disable, root.handlers[:], root.level
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)


def tidy(model: onnx.ModelProto) -> None:
    """Remove, in place, the quantizers' notes, inferred shapes, and imports of operator sets that no node uses."""
    del model.graph.value_info[:]
    kept = [entry for entry in model.metadata_props if entry.key not in _NOTES]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    if any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute):
        return  # what branches and loops use inside is not looked at: every import stays
    used = {node.domain for node in model.graph.node} | {"", "ai.onnx"}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _precision(model: onnx.ModelProto) -> str:
    return describe(model).precision


def _layer_facts(subject: Quantization, made: onnx.ModelProto, chosen: Chosen) -> list[dict[str, Any]]:
    floats = {tensor.name for tensor in made.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
    return [
        {
            "name": layer.name,
            "bits": FLOAT_BITS if layer.name in chosen.left_alone or floats & set(layer.weights) else layer.bits,
            "excluded": layer.name in chosen.left_alone,
            "damage": chosen.damages.get(layer.name),
        }
        for layer in subject.layers
    ]


def _damage_facts(made: onnx.ModelProto, trial: Trial | None) -> dict[str, Any]:
    if trial is None:
        return {}
    found = trial.damage(made)
    return {
        "disagreement": found.disagreement,
        "relative_error": found.relative_error,
        "rows_compared": len(trial),
    }
