"""What the recipes make of reference models: bytes on the wire, accuracy, time and memory, each beside the source.

The peer is what a user would call otherwise, `onnxruntime.quantization.quantize_dynamic` with its defaults; it is
packed, evaluated and measured by the same code. The recipe `fp32` keeps the source: its ratios of time and memory
tell how much the others are worth. Accuracy is judged on rows that neither training nor calibration has seen, one row
at a time, as devices are asked. Latency is the median of single runs on one thread, memory the resident growth of a
process of its own; both are medians over rounds that take source and variant in turn.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from controller.artifacts.graph.sessions import Session, Tensors
from controller.domain.errors import InvalidInput
from ops.benchmarks.findings import Findings, machine, median_ratio, progress
from ops.benchmarks.reference_models import REFERENCES
from ops.benchmarks.resident import ResidentMemory
from ops.benchmarks.variants import PEER, Built, Made, Workbench

SMALL = (
    "fp32",
    "int8",
    "structured-50",
    "structured-50-int8",
    "structured-75-int8",
    "structured-80-int8-static",
    "distil",
    "distil-int8",
    "distil-64-32-int8",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "digits_mlp": SMALL,
    "digits_conv": (*SMALL, "palette-16", "int8-static", "structured-50-int8-static"),
    "tabular_mlp": (*SMALL, "palette-16"),
    "tabular_gradient_boosting": ("fp32", "int8", "structured-50", "distil", "distil-int8", "distil-64-32-int8"),
    "transformer_block": (
        "fp32",
        "int8",
        "int8-clipped",
        "int4-weights",
        "structured-25-int8",
        "structured-50",
        "structured-50-int8",
    ),
}
"""By model; those that do not apply stay in, because a refusal is a finding too."""
QUICK_RECIPES: dict[str, tuple[str, ...]] = {
    "digits_mlp": ("int8", "structured-50", "structured-80-int8-static"),
    "digits_conv": ("int8", "structured-50", "structured-80-int8-static"),
    "tabular_mlp": ("int8", "palette-16"),
    "tabular_gradient_boosting": ("fp32", "int8"),
    "transformer_block": ("int8",),
}
QUICK_ROWS = 200
"""What a minute is enough for."""
DROP_POINTS_MAX = 1.0
"""What the best recipe may cost."""
BLOCK_S = 0.05
"""A block of single runs lasts about this long, and has at least RUNS_MIN of them."""
RUNS_MIN = 5


def measure(quick: bool) -> Findings:
    """Return the figures of every model; `quick` takes fewer recipes, evaluation rows and rounds."""
    extent = Extent(blocks=5, processes=3) if quick else Extent(blocks=9, processes=5)
    models = {}
    for name, make in REFERENCES.items():
        reference, recipes = make(), RECIPES[name]
        if quick:
            reference, recipes = reference.head(QUICK_ROWS), QUICK_RECIPES[name]
        with tempfile.TemporaryDirectory(prefix="edgefleet-bench-") as folder:
            models[name] = measure_model(Workbench(reference, Path(folder)), recipes, extent)
    return {"models": models, **asdict(extent)}


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    blocks: int
    """Rounds of latency."""
    processes: int
    """Rounds of memory."""


def measure_model(bench: Workbench, recipes: Sequence[str], extent: Extent) -> Findings:
    """Return the figures of one model."""
    reference = bench.reference
    source_bytes = bench.source.stat().st_size
    built, refused = _build(bench, recipes)
    # Packing and evaluating keep a core busy each and measure no time: all cores at once.
    with ThreadPoolExecutor(machine()["cores"]) as pool:
        judged = list(pool.map(bench.judge, built))
    found: dict[str, Any] = {}
    with ResidentMemory(bench.row) as memory:
        costs = _Costs(bench, memory, extent)
        for made in judged:
            name = made.built.name
            found[name] = costs.of(made)
            progress(f"{reference.name} {name}: {_told(source_bytes, found[name])}")
    peer = found.pop(PEER, None) or {"peer": None, "reason": refused.pop(PEER)}
    return {
        "source_bytes": source_bytes,
        "samples": len(reference.labels),
        "recipes": found,
        "refused": refused,
        PEER: peer,
        "best": best_recipe(source_bytes, found),
    }


def _build(bench: Workbench, recipes: Sequence[str]) -> tuple[list[Built], dict[str, str]]:
    """Return the variants, the peer's among them, and why the others do not apply."""
    built: list[Built] = []
    refused: dict[str, str] = {}
    for recipe in recipes:
        try:
            built.append(bench.compress(recipe))
        except InvalidInput as refusal:
            refused[recipe] = refusal.detail
            progress(f"{bench.reference.name} {recipe}: refused: {refusal.detail}")
    try:
        built.append(bench.compress_as_the_peer_does())
    except Exception as error:  # noqa: BLE001 - whatever stops the peer is the finding
        refused[PEER] = f"quantize_dynamic fails: {error}"
    return built, refused


def best_recipe(source_bytes: int, recipes: dict[str, Any]) -> Findings:
    """Return the recipe with the fewest bytes on the wire among those that lose less than DROP_POINTS_MAX."""
    drops = {name: drop_points(found) for name, found in recipes.items()}
    good = [name for name, drop in drops.items() if drop < DROP_POINTS_MAX]
    if not good:
        return {"recipe": None, "wire_ratio": None, "drop_points": None}
    best = min(good, key=lambda name: recipes[name]["wire_bytes"])
    ratio = round(source_bytes / recipes[best]["wire_bytes"], 2)
    return {"recipe": best, "wire_ratio": ratio, "drop_points": drops[best]}


def drop_points(found: dict[str, Any]) -> float:
    """Return by how many percentage points the variant's accuracy is below the source's."""
    return round(100.0 * float(found["accuracy_source"] - found["accuracy"]), 4)


def _told(source_bytes: int, found: dict[str, Any]) -> str:
    return (
        f"{found['wire_bytes']} bytes on the wire, {source_bytes / found['wire_bytes']:.1f} times fewer; drop "
        f"{drop_points(found):.2f} points; latency {found['latency_ratio']}, memory {found['memory_ratio']}"
    )


class _Costs:
    """Measures variants of one model beside their source."""

    def __init__(self, bench: Workbench, memory: ResidentMemory, extent: Extent) -> None:
        self._bench, self._memory = bench, memory
        self._extent = extent
        self._row = bench.reference.row()
        self._source = Session(bench.source, as_on_devices=True)

    def of(self, made: Made) -> Findings:
        """Return every figure of a variant."""
        source_us, variant_us = self._latencies_us(made.built.model)
        source_memory, variant_memory = self._memories(made.built.model)
        figures = made.figures
        return {
            "bytes": made.bytes,
            "wire_bytes": made.wire_bytes,
            "accuracy_source": round(figures["source_value"], 6),
            "accuracy": round(figures["value"], 6),
            "accuracy_ci": [round(end, 4) for end in figures["value_ci"]],
            "drop_points_ci": [round(100 * end, 2) for end in figures["drop_ci"]],
            "agreement": round(figures["agreement"], 4),
            "latency_ratio": median_ratio(variant_us, source_us),
            "memory_ratio": median_ratio(variant_memory, source_memory),
            "latency_us": round(statistics.median(variant_us), 1),
            "memory_bytes": round(statistics.median(variant_memory)),
            "seconds": round(made.built.seconds, 2),
        }

    def _latencies_us(self, model: Path) -> tuple[list[float], list[float]]:
        sessions = (self._source, Session(model, as_on_devices=True))
        for session in sessions:
            _block_us(session, self._row)
        pairs = [[_block_us(session, self._row) for session in sessions] for _ in range(self._extent.blocks)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def _memories(self, model: Path) -> tuple[list[float], list[float]]:
        files = (self._bench.source, model)
        pairs = [[self._memory.growth_bytes(file) for file in files] for _ in range(self._extent.processes)]
        return [float(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs]


def _block_us(session: Session, row: Tensors) -> float:
    """Return the median time of one run in a block of runs."""
    times: list[int] = []
    begun = time.perf_counter_ns()
    while len(times) < RUNS_MIN or time.perf_counter_ns() - begun < BLOCK_S * 1e9:
        started = time.perf_counter_ns()
        session.run(row)
        times.append(time.perf_counter_ns() - started)
    return statistics.median(times) / 1000
