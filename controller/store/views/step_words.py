"""What a compression step has to tell about itself, in one line: its headline facts, as they were stored.

Every step stores what it likes. What is known by name is put into words here; of the rest, nothing is shown.
"""

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]


def _percent(value: Any) -> str:
    return f"{value * 100:.3g} %"


def _small(value: Any) -> str:
    return f"{value:.2g}"


def _listed(value: Any) -> str:
    return " + ".join(str(part) for part in value) if isinstance(value, list) else str(value)


_PHRASES: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("words", "{}", str),
    ("fusion", "fusion {}", str),
    ("largest_difference", "outputs differ by {} at most", _small),
    ("index", "{}", str),
    ("hidden", "hidden {}", _listed),
    ("fraction", "asked to remove {} of the channels", _percent),
    ("recovery", "recovery: {}", str),
    ("sparsity", "{} of the weights are zero", _percent),
    ("share", "{} of the weights converted", _percent),
    ("agreement", "{} of the answers like the teacher's", _percent),
    ("disagreement", "{} of the answers changed", _percent),
    ("relative_error", "relative error of the outputs {}", _small),
    ("largest_relative_error", "relative error of the outputs {} at most", _small),
)
"""Name of a fact, its phrase, and how its value is written; in the order in which they are told."""


def headline(facts: Facts) -> str:
    """Return a step's headline facts in one line; empty where it stored nothing that is known here."""
    known = {**_chosen(facts), **(facts.get("damage") or {}), **facts}
    told = [_parameters(facts), _precision(facts)]
    told += [phrase.format(write(known[name])) for name, phrase, write in _PHRASES if known.get(name) is not None]
    told.append(_left_alone(facts))
    return "; ".join(filter(None, told))


def _chosen(facts: Facts) -> Facts:
    """Return what is known of the student that was chosen among those that were tried."""
    tried = facts.get("tried") or []
    return next((one for one in tried if one.get("hidden") == facts.get("hidden")), {})


def _parameters(facts: Facts) -> str:
    if "parameters_before" not in facts or "parameters_after" not in facts:
        return ""
    return f"{facts['parameters_before']} parameters became {facts['parameters_after']}"


def _precision(facts: Facts) -> str:
    # Of a pruned network, `weights` is a number.
    return f"weights {facts['weights']}" if isinstance(facts.get("weights"), str) else ""


def _left_alone(facts: Facts) -> str:
    names = [layer["name"] for layer in facts.get("layers") or [] if layer.get("excluded")]
    return f"left alone: {', '.join(names)}" if names else ""
