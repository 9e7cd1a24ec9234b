"""What the jobs find, as they hand it from the child to the parent: plain values with a JSON form."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import Runtime, TensorSpec

MAIN_FILE = "model.onnx"
"""How the model's file is called, here and on devices."""
NO_FILE = "-"
"""Stands on a job's command line for a file that there is not."""
ALL_ROWS = "all"
EVEN_ROWS = "even"
"""Which rows of a file a step learns from: of evaluation data only half, so that the other half may judge."""

Interval = tuple[float, float]
"""Lower and upper end."""
_INTERVALS = ("value_ci", "source_ci", "drop_ci")


@dataclass(frozen=True)
class ModelFacts:
    """What an ONNX file says about itself."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    operators: tuple[str, ...]
    precision: str
    """The type of most weights: `fp32`, `fp16`, `int8` ..."""
    parameters: int
    """Elements of all weights."""
    memory_bytes: int
    """Estimated peak while the model loads and answers one row (`graph/facts.py` has the formula)."""

    @property
    def runtime(self) -> Runtime:
        """What a device needs to run the file."""
        return Runtime("onnxruntime", self.opset, self.operators, self.precision, self.memory_bytes)

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        fields = Fields(value, "facts")
        return cls(
            inputs=fields.children("inputs", TensorSpec.read),
            outputs=fields.children("outputs", TensorSpec.read),
            opset=fields.integer("opset"),
            operators=fields.texts("operators"),
            precision=fields.text("precision"),
            parameters=fields.integer("parameters"),
            memory_bytes=fields.integer("memory_bytes"),
        )


@dataclass(frozen=True)
class Inspection:
    """An upload that can be compressed and run, and how many samples it can be evaluated on."""

    model: ModelFacts
    samples: int
    """Rows of the evaluation data; 0 without any."""
    calibration_samples: int = 0
    """Rows of the calibration data; 0 without any."""

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored with the version and shown."""
        return {
            **self.model.to_json(),
            "samples": self.samples,
            "calibration_samples": self.calibration_samples,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        fields = Fields({"calibration_samples": 0, **value}, "inspection")
        return cls(ModelFacts.from_json(value), fields.integer("samples"), fields.integer("calibration_samples"))


@dataclass(frozen=True)
class StepResult:
    """What one compression step made."""

    model: ModelFacts
    facts: dict[str, Any]
    """What the step has to tell about itself."""
    files: tuple[str, ...]
    """Names of the files it wrote: the model, and its weights where they lie apart."""

    def to_json(self) -> dict[str, Any]:
        """Return the form that crosses the process boundary."""
        return {"model": self.model.to_json(), "facts": self.facts, "files": list(self.files)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(ModelFacts.from_json(value["model"]), dict(value["facts"]), tuple(value["files"]))


@dataclass(frozen=True)
class Evaluation:
    """How a variant behaves: figures on the evaluation data, and how far its golden outputs may differ."""

    metric: str | None
    """`accuracy`, `r2`, `cosine` or `plugin:NAME`; None where there is no evaluation data."""
    value: float | None
    source_value: float | None
    agreement: float | None
    """Share of the samples on which variant and source decide alike; None where nothing is decided."""
    samples: int
    golden_rows: int
    absolute_tolerance: float
    relative_tolerance: float
    value_ci: Interval | None = None
    """95 % intervals of value, source value and drop (source value - value), from the same resampled rows."""
    source_ci: Interval | None = None
    drop_ci: Interval | None = None
    worst_class: dict[str, Any] | None = None
    """Of the class that the variant finds least of: `class`, `value`, `source_value` (shares found), `samples`."""
    calibration: dict[str, float] | None = None
    """Expected calibration error of both, 0 to 1, lower is better: `value`, `source_value`."""
    similarity: float | None = None
    """Mean cosine between the first outputs with fractions of variant and source; None where there are none."""

    def figures(self) -> dict[str, Any]:
        """Return what is signed in the manifest and shown to people: JSON, all names always there."""
        tolerances = {"golden_rows", "absolute_tolerance", "relative_tolerance"}
        return {name: value for name, value in self.to_json().items() if name not in tolerances}

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        stored = asdict(self)
        return stored | {name: stored[name] and list(stored[name]) for name in _INTERVALS}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote, also before there were intervals."""
        return cls(**value | {name: tuple(value[name]) for name in _INTERVALS if value.get(name)})


@dataclass(frozen=True)
class Comparison:
    """A variant beside its source: how it behaves, and what its layers are like (`graph/layers.py`)."""

    evaluation: Evaluation
    layers: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the form that crosses the process boundary."""
        return {"evaluation": self.evaluation.to_json(), "layers": list(self.layers)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(Evaluation.from_json(value["evaluation"]), tuple(value["layers"]))
