"""Remove hidden neurons and channels, so that bytes, memory and time shrink; refit the layers behind.

Channels between two layers are removed where nothing else reads them (see graph/chains.py), and the next layer is
refitted on what flows on calibration (graph/recovery.py). The damage told for a chain is that after its cut and those
before it, against the graph given, on the calibration rows. With `sensitivity` the chains are cut unequally: again
and again the one whose next cut harms least for each byte that it frees, judged on rows that were not learned from,
until `fraction` of all the chains' channels are gone.
"""

from dataclasses import dataclass
from typing import Any

import onnx

from controller.artifacts.graph.chains import Chain, Refused
from controller.artifacts.graph.cutting import Cut, Ready, Recovery, cut, finished, parameters_of, ranked, ready
from controller.artifacts.graph.recovery import Places
from controller.artifacts.graph.running import Damage
from controller.artifacts.graph.sensitivity import Gauge, cheapest_first, split
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable, needed
from controller.artifacts.steps.parameters import PruneStructured
from controller.domain.errors import InvalidInput

CUTS_A_CHAIN = 8
"""How finely sensitivity cuts: an eighth of a chain at a time, or `align` channels where that is more."""
_NAMED_MAX = 12
_NO_DAMAGE = 1e-6
"""Among cuts without damage the one that frees most bytes is the cheapest."""
_SEARCH_SHARE = 0.7


def apply(model: onnx.ModelProto, parameters: PruneStructured, calibration: Calibration | None, tell: Tell) -> Applied:
    """Prune; InvalidInput(`recipe_inapplicable`) with the reason for each layer where nothing can be removed."""
    if parameters.calibrates:
        calibration = needed(calibration, "prune_structured")
    with_biases = parameters.recovery != "none"
    prepared = ready(model, channels_min=2 * parameters.align, with_biases=with_biases)
    if not prepared.chains:
        raise _nothing_prunable(prepared.refused)
    ranks = {chain.producer_weight: ranked(prepared, chain, calibration) for chain in prepared.chains}
    sizes = {chain.producer_weight: _uniform(chain, parameters) for chain in prepared.chains}
    if parameters.allocation == "sensitivity":
        learned = needed(calibration, "prune_structured")
        sizes = _Search(prepared, ranks, parameters, learned, tell).sizes(sum(sizes.values()))
    if all(sizes[chain.producer_weight] >= chain.channels for chain in prepared.chains):
        raise _fraction_too_small(prepared.chains, parameters)
    done, layers = _cut_all(prepared, ranks, sizes, parameters, calibration, tell)
    result = finished(prepared, done.model)
    return Applied(result, {**_facts(model, result, prepared, parameters), "layers": layers})


def kept_of(channels: int, fraction: float, align: int) -> int:
    """Return how many channels stay: the nearest multiple of `align`, but never none, and all of a small layer."""
    if channels < 2 * align:
        return channels
    return max(align, int(channels * (1 - fraction) / align + 0.5) * align)


def _uniform(chain: Chain, parameters: PruneStructured) -> int:
    return kept_of(chain.channels, parameters.fraction, parameters.align)


def _cut_all(
    prepared: Ready,
    ranks: dict[str, Places],
    sizes: dict[str, int],
    parameters: PruneStructured,
    calibration: Calibration | None,
    tell: Tell,
) -> tuple[Cut, list[dict[str, Any]]]:
    recovery = Recovery(parameters.recovery, parameters.ridge, calibration)
    gauge = Gauge(prepared.model, calibration) if calibration else None
    begun = _SEARCH_SHARE if parameters.allocation == "sensitivity" else 0.0
    now, layers = Cut(prepared.model, {}), []
    for place, chain in enumerate(prepared.chains):
        size = sizes[chain.producer_weight]
        if size < chain.channels:
            now = cut(prepared, now, chain, ranks[chain.producer_weight][:size].tolist(), recovery)
        harm = gauge.damage_of(now.model) if gauge else None
        layers.append(_layer(chain, min(size, chain.channels), harm))
        words = f"{chain.producer}: {chain.channels} to {size} channels{_told(harm)}"
        tell(begun + (1 - begun) * (place + 1) / len(prepared.chains), words)
    return now, layers


def _layer(chain: Chain, size: int, harm: Damage | None) -> dict[str, Any]:
    figures = (
        {"disagreement": round(harm.disagreement, 6), "relative_error": round(harm.relative_error, 6)} if harm else None
    )
    return {
        "name": chain.producer,
        "consumer": chain.consumer,
        "channels_before": chain.channels,
        "channels_after": size,
        "damage": figures,
    }


def _told(harm: Damage | None) -> str:
    if harm is None:
        return ""
    return f"; {harm.disagreement:.2%} of rows decided otherwise, relative error {harm.relative_error:.4f}"


def _facts(
    before: onnx.ModelProto, after: onnx.ModelProto, prepared: Ready, parameters: PruneStructured
) -> dict[str, Any]:
    return {
        "fraction": parameters.fraction,
        "allocation": parameters.allocation,
        "recovery": parameters.recovery,
        "parameters_before": parameters_of(before),
        "parameters_after": parameters_of(after),
        "refused": [{"name": found.name, "reason": found.reason} for found in prepared.refused],
    }


@dataclass
class _Search:
    """Finds how many channels of each chain stay, by what cuts harm."""

    prepared: Ready
    ranks: dict[str, Places]
    parameters: PruneStructured
    calibration: Calibration
    tell: Tell

    def sizes(self, wanted: int) -> dict[str, int]:
        """Return sizes by the producer's weight, that together are about `wanted`."""
        learned, judged = split(self.calibration)
        self._recovery = Recovery(self.parameters.recovery, self.parameters.ridge, learned)
        self._gauge = Gauge(self.prepared.model, judged)
        self._chains = {chain.producer_weight: chain for chain in self.prepared.chains}
        self._now, self._harm = Cut(self.prepared.model, {}), 0.0
        self._sizes = {name: chain.channels for name, chain in self._chains.items()}
        self._tried: dict[str, tuple[Cut, float]] = {}
        self._wanted, self._all = wanted, sum(self._sizes.values())
        if self._all > wanted:
            cheapest_first(list(self._chains), self._price, self._take)
        return self._sizes

    def _next_size(self, name: str) -> int:
        align, channels = self.parameters.align, self._chains[name].channels
        step = max(1, channels // CUTS_A_CHAIN // align) * align
        left = sum(self._sizes.values()) - self._wanted
        step = min(step, max(1, left // align) * align)
        aligned = -(-self._sizes[name] // align) * align
        return max(align, min(self._sizes[name], aligned - step))

    def _price(self, name: str) -> float | None:
        size, chain = self._next_size(name), self._chains[name]
        if size >= self._sizes[name]:
            return None
        tried = cut(self.prepared, self._now, chain, self.ranks[name][:size].tolist(), self._recovery)
        harm = self._gauge.damage_of(tried.model).worst
        freed = 4 * (parameters_of(self._now.model) - parameters_of(tried.model))
        self._tried[name] = (tried, harm)
        return (max(0.0, harm - self._harm) + _NO_DAMAGE) / freed

    def _take(self, name: str) -> bool:
        size = self._next_size(name)
        self._now, self._harm = self._tried.pop(name)
        self._sizes[name] = size
        gone, goal = self._all - sum(self._sizes.values()), self._all - self._wanted
        words = f"{self._chains[name].producer}: {size} channels; damage {self._harm:.4f}"
        self.tell(_SEARCH_SHARE * min(1.0, gone / goal), words)
        return gone < goal


def _nothing_prunable(refused: tuple[Refused, ...]) -> InvalidInput:
    if not refused:
        return inapplicable(
            "prune_structured removes channels of MatMul, Gemm and Conv with constant FP32 weights, and the model has "
            "none; prune before quantizing, or leave prune_structured out"
        )
    told = "; ".join(f"{found.name}: {found.reason}" for found in refused[:_NAMED_MAX])
    more = f"; and {len(refused) - _NAMED_MAX} more" if len(refused) > _NAMED_MAX else ""
    return inapplicable(
        f"prune_structured finds no layer whose channels reach one other layer alone ({told}{more}); "
        "use prune_magnitude, or leave prune_structured out"
    )


def _fraction_too_small(chains: tuple[Chain, ...], parameters: PruneStructured) -> InvalidInput:
    told = ", ".join(f"{chain.producer} has {chain.channels}" for chain in chains[:_NAMED_MAX])
    return inapplicable(
        f"{parameters.fraction:g} of the channels is less than half of `align` = {parameters.align} ({told}); "
        "raise `fraction` or lower `align`"
    )
