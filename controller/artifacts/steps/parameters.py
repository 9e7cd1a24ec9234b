"""The language of recipes: every step's parameters with their bounds and meaning, and the table of steps.

Pure data, so that a recipe can be checked, and its JSON schema given, without loading a graph library.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(gt=0, lt=1)]
Exclusions = Annotated[
    Literal["none", "measured"] | Annotated[list[str], Meta(max_length=256)],
    Meta(description="Layers left alone: none, those that measurably suffer, or those named"),
]
PerChannel = Annotated[bool, Meta(description="A scale for each channel; else one for each tensor, which packs better")]
ReduceRange = Annotated[
    bool, Meta(description="Weights keep 7 of the 8 bits, so that processors without VNNI answer as those with it")
]
Copies = Annotated[int, Meta(ge=0, le=64, description="Noisy and mixed copies of each calibration row")]
Epochs = Annotated[int, Meta(ge=1, le=2000, description="Rounds over all rows at most")]
Seed = Annotated[int, Meta(ge=0, lt=2**32, description="Another one gives another student")]


class StepParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of a step. A name that is not there is refused."""

    @property
    def calibrates(self) -> bool:
        """Tell whether the step cannot work without calibration inputs."""
        return False


class Optimize(StepParameters, frozen=True):
    """Fold constants, fuse neighbours such as convolution and batch normalisation, drop dead code and metadata."""

    fuse: Annotated[bool, Meta(description="Also join neighbouring operators into one")] = True


class Clip(StepParameters, frozen=True):
    """Saturate weights at a bound; with `activations`, also what flows between layers (needs calibration)."""

    bound: Annotated[
        Literal["percentile", "sigma", "least_error"],
        Meta(description="How a bound is found: of |w| the percentile, k standard deviations, or the least error"),
    ] = "least_error"
    value: Annotated[
        float | None, Meta(description="The percentile (50 to 100) or k (above 0); none for least_error")
    ] = None
    per: Annotated[Literal["tensor", "channel"], Meta(description="What has a bound of its own")] = "tensor"
    bits: Annotated[int, Meta(ge=2, le=8, description="Grid that least_error is measured on")] = 8
    activations: Annotated[bool, Meta(description="Also bound what flows between layers")] = False

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return self.activations


class PruneMagnitude(StepParameters, frozen=True):
    """Set the smallest weights to zero: fewer bytes on the wire, the same time and memory."""

    sparsity: Annotated[Share, Meta(description="Share of the weights that become zero")]
    allocation: Annotated[
        Literal["layer", "model", "sensitivity"],
        Meta(description="The same share in every layer, one threshold for all, or more where it harms less"),
    ] = "layer"

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return self.allocation == "sensitivity"


class PruneStructured(StepParameters, frozen=True):
    """Remove hidden neurons and channels, so that bytes, memory and time shrink."""

    fraction: Annotated[Share, Meta(description="Share of the removable channels that goes")]
    allocation: Annotated[
        Literal["uniform", "sensitivity"],
        Meta(description="The same share in every layer, or more where it harms less"),
    ] = "uniform"
    recovery: Annotated[
        Literal["none", "bias", "least_squares"],
        Meta(description="How the next layer is refitted on what the removed channels gave"),
    ] = "least_squares"
    align: Annotated[int, Meta(ge=1, le=64, description="Channels stay a multiple of this")] = 8
    ridge: Annotated[
        float,
        Meta(gt=0, le=1, description="How much least_squares prefers small changes; raise it where inputs are few"),
    ] = 1e-3

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return self.allocation == "sensitivity" or self.recovery != "none"


class QuantizeDynamic(StepParameters, frozen=True):
    """Weights as 8-bit whole numbers, activations as they come."""

    per_channel: PerChannel = True
    reduce_range: ReduceRange = True
    exclude: Exclusions = "none"

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return self.exclude == "measured"


class QuantizeStatic(StepParameters, frozen=True):
    """Weights and activations as 8-bit whole numbers (QDQ), scales from calibration."""

    per_channel: PerChannel = False
    method: Annotated[
        Literal["minmax", "entropy", "percentile"],
        Meta(description="How the range of what flows between layers is taken from the inputs"),
    ] = "minmax"
    reduce_range: ReduceRange = True
    exclude: Exclusions = "none"

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return True


class QuantizeWeights(StepParameters, frozen=True):
    """Large matrices in blocks of 4 or 8 bits; activations stay floats."""

    bits: Annotated[Literal[4, 8], Meta(description="Of each weight")] = 4
    block_size: Annotated[Literal[16, 32, 64, 128], Meta(description="Weights of a column that share a scale")] = 32
    symmetric: Annotated[bool, Meta(description="Without a zero point for each block")] = True
    embeddings: Annotated[bool, Meta(description="Also store large lookup tables as 8-bit rows, each with a scale")] = (
        False
    )
    exclude: Exclusions = "none"

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return self.exclude == "measured"


class Float16(StepParameters, frozen=True):
    """Half precision inside, for device classes whose hardware has it; what the model takes and gives stays FP32."""


class Palette(StepParameters, frozen=True):
    """Share few values among all weights of a layer: stored as indices and a table."""

    entries: Annotated[int, Meta(ge=2, le=256, description="Values a layer; up to 16, an index takes half a byte")] = 16


class Distil(StepParameters, frozen=True):
    """Train a small dense network on the source's soft outputs (scikit-learn)."""

    hidden: Annotated[
        list[Annotated[int, Meta(ge=1, le=4096)]], Meta(min_length=0, max_length=4, description="Layer sizes")
    ] = msgspec.field(default_factory=lambda: [32])
    search: Annotated[
        list[list[Annotated[int, Meta(ge=1, le=4096)]]],
        Meta(max_length=8, description="Other layer sizes to try, small ones first; the first that agrees is taken"),
    ] = msgspec.field(default_factory=list)
    agreement_min: Annotated[float, Meta(gt=0, le=1, description="When a size of `search` is good enough")] = 0.98
    bytes_max: Annotated[int, Meta(ge=1, description="Students larger than this are not tried")] | None = None
    temperature: Annotated[
        float, Meta(gt=0, le=100, description="Probabilities below 0.01 ** temperature are not followed further down")
    ] = 2.0
    augment: Copies = 8
    epochs: Epochs = 200
    seed: Seed = 0

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return True


class DistilTorch(StepParameters, frozen=True):
    """Train a small convolutional network on the source's soft outputs (PyTorch, the extra `distill`)."""

    channels: Annotated[
        list[Annotated[int, Meta(ge=1, le=512)]],
        Meta(min_length=1, max_length=4, description="Channels of each convolution"),
    ] = msgspec.field(default_factory=lambda: [8, 16])
    temperature: Annotated[
        float,
        Meta(gt=0, le=100, description="Softens the class scores of teacher and student before they are compared"),
    ] = 2.0
    augment: Copies = 8
    epochs: Epochs = 40
    seed: Seed = 0

    @property
    def calibrates(self) -> bool:
        """See StepParameters."""
        return True


class ExternalData(StepParameters, frozen=True):
    """Weights in a second file that devices map from disk instead of copying it. Comes last."""

    bytes_min: Annotated[int, Meta(ge=0, description="Smaller tensors stay in the graph's file")] = 1024


@dataclass(frozen=True)
class StepKind:
    """A step that recipes may use. `version` rises whenever the same input would give other bytes."""

    parameters: type[StepParameters]
    effort: int
    """How dear it is beside the others; searches try cheap recipes first."""
    version: int = 1


STEPS: dict[str, StepKind] = {
    "optimize": StepKind(Optimize, effort=1),
    "clip": StepKind(Clip, effort=1),
    "prune_magnitude": StepKind(PruneMagnitude, effort=1),
    "prune_structured": StepKind(PruneStructured, effort=3),
    "quantize_dynamic": StepKind(QuantizeDynamic, effort=1),
    "quantize_static": StepKind(QuantizeStatic, effort=2),
    "quantize_weights": StepKind(QuantizeWeights, effort=1),
    "float16": StepKind(Float16, effort=1),
    "palette": StepKind(Palette, effort=1),
    "distil": StepKind(Distil, effort=4),
    "distil_torch": StepKind(DistilTorch, effort=5),
    "external_data": StepKind(ExternalData, effort=1),
}
"""By the name of its module in `controller.artifacts.steps`."""


def read_parameters(step: str, given: dict[str, Any]) -> StepParameters:
    """Return a step's parameters; msgspec.ValidationError names what does not fit, KeyError an unknown step."""
    return msgspec.convert(given, STEPS[step].parameters)
