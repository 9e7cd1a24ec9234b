"""Taking channels out of chains, one chain at a time, each time refitting the layer behind.

`ready` copies a graph and prepares it; `cut` gives a further graph with a chain cut to the channels named. Channels
are ranked once, in the graph given, so that every smaller choice is part of a larger one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts.graph.chains import Chain, Refused, captured_names, find_chains
from controller.artifacts.graph.private_constants import (
    free_reshapes,
    give_biases,
    initializers,
    join_vectors,
    lift_constants,
    part_vectors,
)
from controller.artifacts.graph.recovery import Kind, Places, kept_alone, refit
from controller.artifacts.graph.running import activations
from controller.artifacts.graph.sensitivity import spread
from controller.artifacts.graph.sessions import Array
from controller.artifacts.graph.weights import copy_of
from controller.artifacts.steps.interface import Calibration

FLOW_ROWS_MAX = 4096
ROWS_MIN = 256
"""Of calibration, however many places or steps each has: neighbours in one input tell much the same."""
FLOW_BYTES_MAX = 256 * 1024 * 1024
"""Of one layer's inputs: where calibration gives more, fewer rows are taken."""
_RANK_OF_MATRICES = 2


@dataclass(frozen=True)
class Recovery:
    """How consumers are refitted, and on what."""

    kind: Kind
    ridge: float
    calibration: Calibration | None


@dataclass(frozen=True)
class Ready:
    """A copy of a graph that chains can be cut from."""

    model: onnx.ModelProto
    chains: tuple[Chain, ...]
    refused: tuple[Refused, ...]
    biases: Mapping[str, str]
    """Vectors that consumers add, by the consumer's weight."""
    copies: dict[str, str]


@dataclass(frozen=True)
class Cut:
    """A graph with some channels gone."""

    model: onnx.ModelProto
    kept: Mapping[str, Places]
    """By the producer's weight: which of its channels in the graph given are left."""


def ready(model: onnx.ModelProto, *, channels_min: int, with_biases: bool) -> Ready:
    """Return a copy with its chains of at least `channels_min`; `with_biases` when consumers are to be refitted."""
    copied = copy_of(model)
    del copied.graph.value_info[:]
    lift_constants(copied)
    copies = part_vectors(copied)
    found, refused = find_chains(copied)
    chains = [chain for chain in found if chain.channels >= channels_min]
    refused += [
        Refused(chain.producer, f"its {chain.channels} channels are fewer than {channels_min}, twice `align`")
        for chain in found
        if chain not in chains
    ]
    biases = give_biases(copied, chains) if with_biases else {}
    free_reshapes(copied, chains)
    # Again, because the biases belong to what the consumers' own chains are cut from.
    chains = [chain for chain in find_chains(copied)[0] if chain.channels >= channels_min]
    return Ready(copied, tuple(chains), tuple(refused), biases, copies)


def finished(prepared: Ready, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its shapes inferred anew."""
    done = copy_of(model)
    join_vectors(done, prepared.copies)
    try:
        done = onnx.shape_inference.infer_shapes(done)
    except (onnx.shape_inference.InferenceError, ValueError):
        del done.graph.value_info[:]
    onnx.checker.check_model(done)
    return done


def ranked(prepared: Ready, chain: Chain, calibration: Calibration | None) -> Places:
    """Return a chain's channels, those that matter most first.

    A channel matters by the length of the consumer's weights for it, times the standard deviation of what it gave on
    calibration; without calibration, times the length of the producer's weights for it.
    """
    held = initializers(prepared.model)
    reading = _matrix(held[chain.weight], chain.input_axis).reshape(chain.channels, -1)
    if calibration is None:
        own = chain.slices[0]
        weights = np.moveaxis(numpy_helper.to_array(held[own.name]), own.axis, 0).reshape(chain.channels, -1)
        strength = np.linalg.norm(weights.astype(np.float64), axis=1)
    else:
        flow = flow_into(prepared.model, chain, fitting(prepared, chain, calibration))
        strength = np.sqrt(flow.var(axis=0, dtype=np.float64).reshape(chain.channels, -1).mean(axis=1))
    scores = strength * np.linalg.norm(reading.astype(np.float64), axis=1)
    return np.argsort(-scores, kind="stable")


def cut(prepared: Ready, now: Cut, chain: Chain, kept: Collection[int], recovery: Recovery) -> Cut:
    """Return the graph with a chain cut to `kept`, as the graph given counts channels, and its consumer refitted."""
    chosen = np.sort(np.fromiter(kept, np.int64))
    before = now.kept.get(chain.producer_weight, np.arange(chain.channels))
    staying = np.searchsorted(before, chosen)
    model = copy_of(now.model)
    held = initializers(model)
    for found in chain.slices:
        places = _entries(staying, chain.repeat) if found.flat else staying
        _replace(held[found.name], np.take(numpy_helper.to_array(held[found.name]), places, found.axis))
    _refit_consumer(prepared, now, model, chain, chosen, _entries(staying, chain.repeat), recovery)
    return Cut(model, {**now.kept, chain.producer_weight: chosen})


def fitting(prepared: Ready, chain: Chain, calibration: Calibration) -> Calibration:
    """Return as many of the calibration rows, spread over all, as a chain's refit can use and its inputs may take.

    A row of maps or steps gives many rows of inputs, of which no more than `FLOW_ROWS_MAX` are looked at.
    """
    one_run = calibration.head(1)
    flow = flow_into(prepared.model, chain, one_run, rows_max=FLOW_BYTES_MAX)
    affordable = FLOW_BYTES_MAX * len(one_run) // max(1, flow.nbytes)
    useful = max(ROWS_MIN, 2 * FLOW_ROWS_MAX * len(one_run) // len(flow))
    return spread(calibration, max(1, min(affordable, useful)))


def flow_into(
    model: onnx.ModelProto, chain: Chain, calibration: Calibration, *, rows_max: int = FLOW_ROWS_MAX
) -> Array:
    """Return what flows into a chain's consumer, [rows or places or steps, entries of the axis that it adds up]."""
    width = initializers(model)[chain.weight].dims[chain.input_axis]
    watched, last, source = _graph_before(model, chain.flowing), f"{chain.flowing}_by_row", chain.flowing
    if chain.input_axis == 1 and chain.rank > _RANK_OF_MATRICES:
        order = [0, *range(2, chain.rank), 1]
        source = f"{chain.flowing}_channels_last"
        watched.graph.node.append(helper.make_node("Transpose", [chain.flowing], [source], perm=order))
    watched.graph.initializer.append(numpy_helper.from_array(np.array([-1, width], np.int64), f"{last}_shape"))
    watched.graph.node.append(helper.make_node("Reshape", [source, f"{last}_shape"], [last]))
    return activations(watched, [last], calibration, rows_max=rows_max)[last]


def parameters_of(model: onnx.ModelProto) -> int:
    """Return how many floating-point numbers the initializers hold."""
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT)


def _refit_consumer(
    prepared: Ready,
    now: Cut,
    model: onnx.ModelProto,
    chain: Chain,
    chosen: Places,
    staying: Places,
    recovery: Recovery,
) -> None:
    # The layer is refitted from what it was in the graph given, less the outputs that its own chain has lost since.
    given, held = initializers(prepared.model), initializers(model)
    outputs = now.kept.get(chain.weight)
    weight = _with_outputs(numpy_helper.to_array(given[chain.weight]), 1 - chain.input_axis, outputs)
    matrix, entries = np.moveaxis(weight, chain.input_axis, 0), _entries(chosen, chain.repeat)
    flat = matrix.reshape(len(matrix), -1)
    if recovery.kind == "none" or recovery.calibration is None:
        fitted = kept_alone(flat, entries)
    else:
        rows = fitting(prepared, chain, recovery.calibration)
        wanted, got = flow_into(prepared.model, chain, rows), flow_into(now.model, chain, rows)[:, staying]
        fitted = refit(flat, entries, wanted, got, recovery.kind, recovery.ridge)
        bias = _with_outputs(numpy_helper.to_array(given[prepared.biases[chain.weight]]), -1, outputs)
        # A kernel adds the offset at each of its places; at padded borders, where it has fewer, this is too much.
        _replace(held[prepared.biases[chain.weight]], bias + fitted.offset.reshape(matrix.shape[1], -1).sum(axis=1))
    _replace(held[chain.weight], np.moveaxis(fitted.matrix.reshape(-1, *matrix.shape[1:]), 0, chain.input_axis))


def _graph_before(model: onnx.ModelProto, flowing: str) -> onnx.ModelProto:
    # Without outputs, and without the nodes that the named tensor does not depend on: they would be run for nothing.
    needed, nodes = {flowing}, []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input, captured_names(node))
    graph = onnx.GraphProto(name=model.graph.name, input=model.graph.input, node=reversed(nodes))
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in needed)
    return helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )


def _with_outputs(values: Array, axis: int, outputs: Places | None) -> Array:
    return values if outputs is None else np.take(values, outputs, axis)


def _matrix(tensor: TensorProto, axis: int) -> Array:
    return np.moveaxis(numpy_helper.to_array(tensor), axis, 0)


def _entries(channels: Places, repeat: int) -> Places:
    return np.asarray((channels[:, None] * repeat + np.arange(repeat)).reshape(-1))


def _replace(tensor: TensorProto, values: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))
