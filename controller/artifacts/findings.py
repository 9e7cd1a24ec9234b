"""What the jobs find, as they hand it from the child to the parent: plain values with a JSON form."""

from dataclasses import asdict, dataclass
from typing import Any, Self

from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import Runtime, TensorSpec


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

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored with the version and shown."""
        return {**self.model.to_json(), "samples": self.samples}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(ModelFacts.from_json(value), Fields(value, "inspection").integer("samples"))


@dataclass(frozen=True)
class Compression:
    """A variant's file, as the recipe's steps made it."""

    model: ModelFacts
    steps: tuple[dict[str, Any], ...]
    """For each step its name, parameters and what it found."""

    def to_json(self) -> dict[str, Any]:
        """Return the form that crosses the process boundary."""
        return {"model": self.model.to_json(), "steps": list(self.steps)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(ModelFacts.from_json(value["model"]), tuple(value["steps"]))


@dataclass(frozen=True)
class Evaluation:
    """How a variant behaves: figures on the evaluation data, and how far its golden outputs may differ."""

    metric: str | None
    """`accuracy`; None where there is no evaluation data, and then nothing was promised."""
    value: float | None
    source_value: float | None
    agreement: float | None
    """Share of the samples on which variant and source decide alike."""
    samples: int
    golden_rows: int
    absolute_tolerance: float
    relative_tolerance: float

    def figures(self) -> dict[str, Any]:
        """Return what is signed in the manifest and shown to people."""
        names = ("metric", "value", "source_value", "agreement", "samples")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return the stored form."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        return cls(**value)
