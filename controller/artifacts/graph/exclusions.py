"""Which layers quantization leaves alone: those that are named, or those whose damage was measured.

Measured means: every layer is quantized alone, the others left as they were, and the answers are compared with those
of the graph given. Alone, and not all but one, because then a figure belongs to one layer however many there are, and
a faint one is not drowned by the others' damage. A graph of many layers is tried in groups of neighbours, so that the
number of trials is bounded. What is left alone is then chosen by trying the real combination (`choose_exclusions`).

The figure of a trial is its severity: the share of rows decided otherwise plus a hundredth of the relative error
(`running.Damage`); where outputs name no class, a tenth of the relative error. Rows are run as devices run them.
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from controller.artifacts.behaviour.decisions import decide
from controller.artifacts.graph.running import Damage, damage
from controller.artifacts.graph.sessions import Session, Tensors
from controller.artifacts.steps.interface import Calibration, Tell, needed
from controller.artifacts.steps.parameters import Exclusions
from controller.domain.errors import InvalidInput

ROWS_MAX = 128
"""Calibration rows that trials are run on."""
TRIALS_MAX = 32
"""Groups that layers are tried in; up to as many layers, each is tried alone."""
SEVERITY_MAX = 0.005
"""Enough: half a point of the decisions, or a relative error of 0.05 where nothing is decided."""
GAIN_MIN = 0.1
"""Share of the damage that leaving one more layer alone must take away. Less is no reason to keep its bytes."""
NAMES_SHOWN = 40

Quantize = Callable[[frozenset[str]], onnx.ModelProto]
"""Quantizes every layer but the named."""


@dataclass(frozen=True)
class Layer:
    """A node that multiplies by FP32 constants of two dimensions or more, or looks rows up in one."""

    name: str
    weights: tuple[str, ...]
    """Its constants, by their names as initializers."""
    elements: int
    bits: int
    """What its weights have when it is quantized."""


@dataclass(frozen=True)
class Chosen:
    """The nodes to leave alone, and each layer's severity when it was quantized alone."""

    left_alone: frozenset[str] = frozenset()
    damages: Mapping[str, float] = field(default_factory=dict)


class Trial:
    """Compares quantized graphs with the one given, on the first rows of the calibration data."""

    def __init__(self, model: onnx.ModelProto, calibration: Calibration) -> None:
        self._rows = calibration.head(ROWS_MAX)
        self._reference = self._answers(model)
        self._decides = decide(self._reference) is not None

    def __len__(self) -> int:
        return len(self._rows)

    def damage(self, model: onnx.ModelProto) -> Damage:
        """Return how far the graph has strayed."""
        return damage(self._reference, self._answers(model))

    def severity(self, model: onnx.ModelProto) -> float:
        """Return the damage as one number, comparable with SEVERITY_MAX."""
        found = self.damage(model)
        return found.worst if self._decides else 0.1 * found.relative_error

    def _answers(self, model: onnx.ModelProto) -> Tensors:
        session = Session(model.SerializeToString())
        return session.run_rows(self._rows.inputs, self._rows.rows_a_run)


def trial_of(model: onnx.ModelProto, calibration: Calibration | None, exclude: Exclusions, step: str) -> Trial | None:
    """Return a trial against this graph; without calibration data None, or InvalidInput where `exclude` needs it."""
    if exclude == "measured":
        calibration = needed(calibration, step)
    return Trial(model, calibration) if calibration is not None and len(calibration) else None


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node of the outer graph a name of its own, in place: OPERATOR_NUMBER where it lacks one."""
    taken = {node.name for node in model.graph.node}
    seen = {""}
    for number, node in enumerate(model.graph.node):
        if node.name in seen:
            name = f"{node.op_type}_{number}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def layers_of(model: onnx.ModelProto, operators: Collection[str], bits: int = 8) -> list[Layer]:
    """Return the layers of these operators, in the order of the graph, whose nodes have names."""
    constants = {
        tensor.name: int(np.prod(tensor.dims))
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) >= 2
    }
    found = []
    for node in model.graph.node:
        weights = tuple(name for name in node.input if name in constants)
        if node.op_type in operators and node.domain in ("", "ai.onnx") and weights:
            found.append(Layer(node.name, weights, sum(constants[name] for name in weights), bits))
    return found


def named(names: Collection[str], model: onnx.ModelProto, source: onnx.ModelProto) -> frozenset[str]:
    """Return the nodes of `model` that the names stand for; InvalidInput(`recipe_parameters`) for one that is unknown.

    Names are those of `source`; preparation may have fused a node under another name, and then what reads the same
    matrix is meant.
    """
    present = {node.name for node in model.graph.node}
    matrices = {tensor.name for tensor in source.graph.initializer if len(tensor.dims) >= 2}
    read = {node.name: matrices & set(node.input) for node in source.graph.node}
    meant: set[str] = set()
    for name in names:
        wanted = read.get(name, set())
        found = {name} & present or {node.name for node in model.graph.node if wanted & set(node.input)}
        if not found:
            raise _unknown(name, [node.name for node in model.graph.node])
        meant |= found
    return frozenset(meant)


def measured(layers: Sequence[Layer], quantize: Quantize, trial: Trial, tell: Tell) -> Chosen:
    """Try the layers alone and choose which to leave alone. Quantizes 2 * TRIALS_MAX + 1 times at most."""
    groups = _groups([layer.name for layer in layers])
    everything = frozenset(layer.name for layer in layers)
    figures: dict[str, float] = {}
    for number, (first, group) in enumerate(groups.items(), start=1):
        figures[first] = trial.severity(quantize(everything - set(group)))
        tell(0.6 * number / len(groups), f"{', '.join(group)} quantized alone: damage {figures[first]:.4f}")
    tried = itertools.count(1)

    def together(left: frozenset[str]) -> float:
        found = trial.severity(quantize(_members(groups, left)))
        told = ", ".join(sorted(left)) or "nothing"
        tell(0.6 + 0.3 * next(tried) / (len(groups) + 1), f"{told} left alone: damage {found:.4f}")
        return found

    left = choose_exclusions(figures, together)
    return Chosen(_members(groups, left), {name: figures[first] for first, group in groups.items() for name in group})


def choose_exclusions(
    damages: Mapping[str, float], together: Callable[[frozenset[str]], float], *, bound: float = SEVERITY_MAX
) -> frozenset[str]:
    """Return the layers to leave alone until the damage of the rest is within the bound.

    Takes them in the order of their damage alone, the worst first, and keeps a choice that takes GAIN_MIN of the
    damage away, as `together` tells it for layers left alone. One layer always stays quantized. Greedy: close to the
    fewest, not proven to be.
    """
    left: frozenset[str] = frozenset()
    current = together(left)
    for name in sorted(damages, key=lambda name: -damages[name]):
        if current <= bound or len(left) + 1 >= len(damages):
            break
        tried = together(left | {name})
        if tried <= current * (1 - GAIN_MIN):
            left, current = left | {name}, tried
    return left


def _groups(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    # By the first name; neighbours stay together, and groups differ by one layer at most.
    count = min(len(names), TRIALS_MAX)
    bounds = [len(names) * number // max(count, 1) for number in range(count + 1)]
    return {names[start]: tuple(names[start:end]) for start, end in itertools.pairwise(bounds)}


def _members(groups: Mapping[str, tuple[str, ...]], firsts: Collection[str]) -> frozenset[str]:
    return frozenset(name for first in firsts for name in groups[first])


def _unknown(name: str, known: Sequence[str]) -> InvalidInput:
    more = f" and {len(known) - NAMES_SHOWN} more" if len(known) > NAMES_SHOWN else ""
    return InvalidInput(
        f"exclude names {name!r}, which is no node of the graph that is quantized; its nodes are "
        f"{', '.join(known[:NAMES_SHOWN])}{more}",
        code="recipe_parameters",
        field="/recipes",
    )
