"""How much of each layer may go: measuring what a change harms, and sharing a cut out among layers by it."""

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from controller.artifacts.graph.running import Damage, damage, run_model
from controller.artifacts.steps.interface import Calibration

MEASURED_ROWS_MAX = 512
_HELD_OUT_EVERY = 4
_LEAST_RUNS_TO_SPLIT = 16


class Gauge:
    """Tells how far graphs have strayed from the one given, on rows spread over the calibration data."""

    def __init__(self, reference: onnx.ModelProto, calibration: Calibration) -> None:
        self.calibration = spread(calibration, MEASURED_ROWS_MAX)
        self._wanted = run_model(reference, self.calibration)

    def damage_of(self, model: onnx.ModelProto) -> Damage:
        """Compare a graph's outputs with those of the reference."""
        return damage(self._wanted, run_model(model, self.calibration))


def spread(calibration: Calibration, rows: int) -> Calibration:
    """Return about as many rows as asked, whole runs evenly spread: stored rows are often sorted by class."""
    size = calibration.rows_a_run
    runs = len(calibration) // size
    wanted = min(runs, -(-rows // size))
    return _runs_of(calibration, np.linspace(0, runs - 1, wanted).round().astype(np.int64))


def split(calibration: Calibration) -> tuple[Calibration, Calibration]:
    """Return rows to learn from and every fourth run to judge by; few rows are used for both.

    A layer with more inputs than there are rows can be refitted to give exactly what it gave on them, and would
    seem to lose nothing.
    """
    runs = np.arange(len(calibration) // calibration.rows_a_run)
    if len(runs) < _LEAST_RUNS_TO_SPLIT:
        return calibration, calibration
    judged = runs % _HELD_OUT_EVERY == 0
    return _runs_of(calibration, runs[~judged]), _runs_of(calibration, runs[judged])


def share_out(
    sizes: Mapping[str, int], levels: Sequence[float], harm: Mapping[str, Sequence[float]], share: float
) -> dict[str, float]:
    """Return the share of each layer that goes, so that `share` of all goes with little harm.

    `harm` gives, for each layer, what is lost at each of the rising `levels`; nothing is lost at 0. The layer whose
    next level harms least for what it takes away is raised, again and again; the last only as far as needed.
    The highest level must be at least `share`.
    """
    steps = [0.0, *levels]
    curves = {name: np.maximum.accumulate([0.0, *harm[name]]) for name in sizes}
    reached = dict.fromkeys(sizes, 0)
    shares = dict.fromkeys(sizes, 0.0)
    left = share * sum(sizes.values())

    def price(name: str) -> float:
        place = reached[name]
        taken = (steps[place + 1] - steps[place]) * sizes[name]
        return float(curves[name][place + 1] - curves[name][place]) / taken

    while left > 0:
        name = min((name for name in sizes if reached[name] < len(levels)), key=price)
        step = steps[reached[name] + 1] - steps[reached[name]]
        taken = min(step * sizes[name], left)
        shares[name] += taken / sizes[name]
        left -= taken
        reached[name] += 1
    return shares


def cheapest_first(names: Sequence[str], price: Callable[[str], float | None], take: Callable[[str], bool]) -> None:
    """Take the cheapest next cut again and again, until `take` answers that it was the last.

    `price` is None where nothing more can be cut. A price is asked again only when its name comes to the front, for
    what is gone elsewhere hardly ever makes a cut cheaper (Minoux: Accelerated greedy algorithms, 1978).
    """
    taken = 0
    queue = [(found, place, taken) for place, name in enumerate(names) if (found := price(name)) is not None]
    heapq.heapify(queue)
    while queue:
        _, place, asked = heapq.heappop(queue)
        if asked == taken:
            if not take(names[place]):
                return
            taken += 1
        found = price(names[place])
        if found is not None:
            heapq.heappush(queue, (found, place, taken))


def _runs_of(calibration: Calibration, runs: np.ndarray) -> Calibration:
    size = calibration.rows_a_run
    rows = (runs[:, None] * size + np.arange(size)).reshape(-1)
    return Calibration({name: array[rows] for name, array in calibration.inputs.items()}, size)
