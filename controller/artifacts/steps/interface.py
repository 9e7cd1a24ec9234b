"""What every step takes and gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import onnx

from controller.artifacts.graph.sessions import Tensors
from controller.artifacts.steps.parameters import StepParameters
from controller.domain.errors import InvalidInput

P_contra = TypeVar("P_contra", bound=StepParameters, contravariant=True)

Tell = Callable[[float, str], None]
"""Says how far a step is (0 to 1) and what it tries; may be called as often as one likes."""


def tell_nobody(share: float, words: str) -> None:
    """Be a Tell for callers that do not watch."""
    del share, words


@dataclass(frozen=True)
class Calibration:
    """Unlabelled inputs of the model, such as it will see on devices: what steps may learn from."""

    inputs: Tensors
    """Arrays by input name; rows along the first axis."""
    rows_a_run: int
    """How many rows the model takes at once; 1 where it is free to choose."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def head(self, rows: int) -> "Calibration":
        """Return the first rows, rounded up to whole runs."""
        runs = -(-rows // self.rows_a_run)
        return Calibration(
            {name: array[: runs * self.rows_a_run] for name, array in self.inputs.items()}, self.rows_a_run
        )


@dataclass(frozen=True)
class Applied:
    """A changed graph, and what a person wants to know about the change, as JSON."""

    model: onnx.ModelProto
    facts: dict[str, Any] = field(default_factory=dict)


class Step(Protocol[P_contra]):
    """A module of this package."""

    def apply(
        self, model: onnx.ModelProto, parameters: P_contra, calibration: Calibration | None, tell: Tell
    ) -> Applied:
        """Return the changed graph; the one given stays as it is."""
        ...


def inapplicable(detail: str) -> InvalidInput:
    """Return the refusal of a recipe that does nothing for this model."""
    return InvalidInput(detail, code="recipe_inapplicable", field="/recipes")


def needed(calibration: Calibration | None, step: str) -> Calibration:
    """Return the calibration data; InvalidInput(`calibration_missing`) when there is none."""
    if calibration is None or not len(calibration):
        raise InvalidInput(
            f"the step {step} learns from inputs of the model, and the version has none; upload it with "
            "--calibration inputs.npz (no labels needed) or with --evaluation",
            code="calibration_missing",
            field="/calibration_sha256",
        )
    return calibration
